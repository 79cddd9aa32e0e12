"""Conditions, their reasons, and the phase that people read.

Conditions follow metav1.Condition; Reconciling and Stalled are kstatus' (Helm --wait, Flux, Argo CD read them).
Controllers branch on conditions, never on the phase.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from pydantic import Field

from perdure_api.model import TolerantModel


class ConditionType(StrEnum):
    """Every condition that a TrainingJob can have."""

    ACCEPTED = "Accepted"
    """The wish makes sense, and a workflow has taken it up."""
    DATASET_READY = "DatasetReady"
    """The dataset was read and can be trained on."""
    RUNNING = "Running"
    """A pod of the current attempt runs."""
    SUCCEEDED = "Succeeded"
    """The job is finished: True with a result, False for good. Unknown while it goes on."""
    RECONCILING = "Reconciling"
    """Something is still to be done (kstatus: in progress)."""
    STALLED = "Stalled"
    """The job cannot go on (kstatus: failed)."""


class ConditionStatus(StrEnum):
    """As in metav1.Condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Reason(StrEnum):
    """Why a condition, an attempt or an Event is as it is. One list for all, so that a word has one meaning."""

    # the wish
    ACCEPTED = "Accepted"
    INVALID_SPEC = "InvalidSpec"
    TEMPORAL_UNAVAILABLE = "TemporalUnavailable"
    WORKFLOW_LOST = "WorkflowLost"
    """The workflow ended without an answer (terminated, or its history is gone)."""
    CANCELLED = "Cancelled"

    # the data
    DATASET_CHECKED = "DatasetChecked"
    NOT_CHECKED = "NotChecked"
    """Nothing to check: a trainer of the user's own, or a file in the image."""
    DATASET_NOT_FOUND = "DatasetNotFound"
    DATASET_EMPTY = "DatasetEmpty"
    DATASET_BROKEN = "DatasetBroken"
    MODEL_NOT_FOUND = "ModelNotFound"
    MODEL_BROKEN = "ModelBroken"
    ACCESS_DENIED = "AccessDenied"
    STORE_UNAVAILABLE = "StoreUnavailable"

    # the course of things
    PENDING = "Pending"
    CHECKING = "Checking"
    STARTING = "Starting"
    POD_RUNNING = "PodRunning"
    RETRYING = "Retrying"
    COLLECTING = "Collecting"
    FINISHED = "Finished"

    # how an attempt ended
    COMPLETED = "Completed"
    FAILED = "Failed"
    PERMANENT_ERROR = "PermanentError"
    PROTOCOL_ERROR = "ProtocolError"
    DISRUPTED = "Disrupted"
    OUT_OF_MEMORY = "OutOfMemory"
    NO_CAPACITY = "NoCapacity"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CANNOT_START = "CannotStart"
    """The container can never start as it is written (no such command, no such Secret)."""
    JOB_REFUSED = "JobRefused"
    """The API server would not take the Job or its pod (quota, admission)."""
    JOB_DELETED = "JobDeleted"
    FENCED = "Fenced"
    DIVERGED = "Diverged"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    MAX_ATTEMPTS_REACHED = "MaxAttemptsReached"


class Phase(StrEnum):
    """The one word that people read first."""

    PENDING = "Pending"
    STARTING = "Starting"
    RUNNING = "Running"
    RETRYING = "Retrying"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class Condition(TolerantModel):
    """One condition, in the form of metav1.Condition."""

    type: ConditionType = Field(description="What this condition is about.")
    status: ConditionStatus = Field(description="True, False or Unknown.")
    reason: str = Field(min_length=1, max_length=64, description="Why, in one word for programs.")
    message: str = Field(default="", max_length=4096, description="Why, in a sentence for people.")
    last_transition_time: str = Field(
        max_length=64,
        json_schema_extra={"format": "date-time"},
        description="When the status last changed.",
    )
    observed_generation: int = Field(default=0, ge=0, description="Generation of the spec that this speaks of.")


def phase_of(conditions: Iterable[Condition]) -> Phase:
    """The phase that a set of conditions amounts to."""
    by_type: Mapping[ConditionType, Condition] = {condition.type: condition for condition in conditions}
    finished = by_type.get(ConditionType.SUCCEEDED)
    if finished and finished.status is ConditionStatus.TRUE:
        return Phase.SUCCEEDED
    if finished and finished.status is ConditionStatus.FALSE:
        return Phase.FAILED
    running = by_type.get(ConditionType.RUNNING)
    if running is None:
        return Phase.PENDING
    if running.status is ConditionStatus.TRUE:
        return Phase.RUNNING
    return Phase.RETRYING if running.reason == Reason.RETRYING else Phase.STARTING


def is_terminal(conditions: Iterable[Condition]) -> bool:
    """Whether the job is finished for good: such a job never starts again."""
    return any(
        condition.type is ConditionType.SUCCEEDED and condition.status is not ConditionStatus.UNKNOWN
        for condition in conditions
    )
