"""What a training pod tells while it runs, and what it may be told in return.

The outer document is Kubeflow's (KEP-2779), so that its clients need no change; `perdure` adds what we know more.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal

from pydantic import Field

from perdure_api.conditions import Reason
from perdure_api.model import Count, TolerantModel
from perdure_api.pod import CheckpointRef, Metrics

PROGRESS_LIMIT_BYTES: Final = 64 * 1024
NOTICE_LIMIT_CHARACTERS: Final = 1024
"""The API server takes no longer message of an Event."""
NoticeReason = Literal[Reason.CHECKPOINT_BROKEN, Reason.CHECKPOINT_NOT_SAVED, Reason.CHECKPOINT_SAVED]


class KubeflowMetric(TolerantModel):
    """One named value; Kubeflow sends values as text."""

    name: str = Field(max_length=128)
    value: str = Field(max_length=128)


class TrainerStatus(TolerantModel):
    """Kubeflow's part of a report."""

    progress_percentage: int | None = Field(default=None, ge=0, le=100)
    estimated_remaining_seconds: Count | None = None
    metrics: list[KubeflowMetric] = Field(default=[], max_length=256)
    last_updated_time: str | None = Field(default=None, max_length=64)


class Notice(TolerantModel):
    """Something that people should be told at once; it becomes an Event of the TrainingJob, most often a Warning."""

    reason: NoticeReason
    message: str = Field(min_length=1, max_length=NOTICE_LIMIT_CHARACTERS)


class PerdureProgress(TolerantModel):
    """Our part of a report."""

    step: Count
    from_step: Count | None = None
    """That the attempt went on from."""
    total_steps: Count | None = None
    tokens_per_second: float | None = Field(default=None, ge=0)
    metrics: Metrics = {}
    """`loss`, `learning_rate`, `grad_norm`, …"""
    checkpoint: CheckpointRef | None = None
    notices: list[Notice] = Field(default=[], max_length=16)
    """Those that no answer has confirmed yet; the same one told twice makes one Event."""


class ProgressReport(TolerantModel):
    """The body of a POST to the progress receiver."""

    trainer_status: TrainerStatus = TrainerStatus()
    perdure: PerdureProgress | None = None


class Command(StrEnum):
    """What the control plane may ask of a trainer."""

    CHECKPOINT = "checkpoint"
    """Save now and go on."""
    STOP = "stop"
    """Save and end."""


class ProgressReply(TolerantModel):
    """The receiver's answer; a trainer that does not understand it may ignore it."""

    command: Command | None = None
    id: str = ""
    """The same command comes with every answer: what has this id and was done once is done."""
    reason: str = ""
    """Why, for people."""


class AttemptCommand(TolerantModel):
    """What the pods of an attempt are to be told, in an annotation of its Job."""

    command: Command
    id: str
    reason: str = ""
