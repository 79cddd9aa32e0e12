"""What a TrainingJob answers: its status. Kept lean, since the API server pays for every field of every write."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import Field
from pydantic.config import JsonDict

from perdure_api import cel, names
from perdure_api.conditions import Condition, ConditionType, is_terminal
from perdure_api.model import TolerantModel

ATTEMPTS_SHOWN: Final = 10
_TIME: Final[JsonDict] = {"format": "date-time"}

_METRICS_LIMIT: Final = 64
_METRIC_NAME_LIMIT: Final = 128
MetricValues = Annotated[
    dict[Annotated[str, Field(max_length=_METRIC_NAME_LIMIT)], float], Field(max_length=_METRICS_LIMIT)
]


def shown_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """Those of a trainer's metrics that a status takes: finite ones with short names, the first 64 of them by name.

    JSON has no other numbers, and the API server refuses the whole status for one metric too many.
    """
    fit = {name: value for name, value in metrics.items() if len(name) <= _METRIC_NAME_LIMIT and math.isfinite(value)}
    return dict(sorted(fit.items())[:_METRICS_LIMIT])


class CheckpointStatus(TolerantModel):
    """The newest committed checkpoint."""

    uri: str = Field(max_length=2048, description="Where it is.")
    step: int = Field(ge=0, description="Step that it holds.")
    time: str | None = Field(default=None, json_schema_extra=_TIME, description="When it was committed.")


class QueueStatus(TolerantModel):
    """Its place while it waits for its turn."""

    position: int = Field(
        ge=1,
        description="1: the next one. Kept exact for the first five; further back it is written anew when it has "
        "become half, or double.",
    )
    time: str | None = Field(default=None, json_schema_extra=_TIME, description="When that was its place.")


class ProgressStatus(TolerantModel):
    """How far the current attempt is, as its pod last told."""

    step: int | None = Field(default=None, ge=0, description="Optimizer steps done.")
    from_step: int | None = Field(default=None, ge=0, description="Step that this attempt went on from.")
    total_steps: int | None = Field(default=None, ge=0, description="Optimizer steps to do.")
    percent: int | None = Field(default=None, ge=0, le=100, description="Share done.")
    eta_seconds: int | None = Field(default=None, ge=0, description="Estimated time to the end of training.")
    tokens_per_second: float | None = Field(default=None, ge=0, description="Training speed.")
    metrics: MetricValues = Field(default={}, description="Newest values, such as loss and learning_rate.")
    last_updated: str | None = Field(default=None, json_schema_extra=_TIME, description="When the pod told.")


class AttemptStatus(TolerantModel):
    """One attempt: one Job, with a pod on each node that was asked for."""

    number: int = Field(ge=1, description="From 1.")
    job: str = Field(max_length=253, description="Name of its Job.")
    nodes: int | None = Field(default=None, ge=1, description="Nodes that it asked for, where that is several.")
    alternative: int | None = Field(
        default=None, ge=0, description="Which of resources.alternatives it asked for, from 0; none: the resources."
    )
    start_time: str = Field(json_schema_extra=_TIME, description="When its Job was created.")
    end_time: str | None = Field(default=None, json_schema_extra=_TIME, description="When it ended.")
    reason: str | None = Field(default=None, max_length=64, description="How it ended, in one word.")
    message: str | None = Field(default=None, max_length=1024, description="How it ended, in a sentence.")
    exit_code: int | None = Field(default=None, description="Exit code of its container.")
    signal: str | None = Field(
        default=None, max_length=16, description="Signal that ended its container, such as SIGKILL, if one did."
    )
    node: str | None = Field(default=None, max_length=253, description="Node that it ran on.")
    from_step: int | None = Field(default=None, ge=0, description="Step that it resumed from.")
    to_step: int | None = Field(default=None, ge=0, description="Step that it reached.")
    checkpoint_step: int | None = Field(
        default=None, ge=0, description="Step of the newest checkpoint that it committed."
    )


class ResultStatus(TolerantModel):
    """What came out."""

    adapter_uri: str | None = Field(default=None, max_length=2048, description="Folder of the adapter (peft's layout).")
    result_uri: str | None = Field(default=None, max_length=2048, description="The whole result document.")
    metrics: MetricValues = Field(default={}, description="Measured after training, such as eval_loss.")
    base_metrics: MetricValues = Field(default={}, description="The same of the base model.")


class WorkflowStatus(TolerantModel):
    """The Temporal workflow that does the work."""

    id: str = Field(max_length=1000, description="Workflow id.")
    run_id: str | None = Field(default=None, max_length=64, description="Run id.")
    as_of: str | None = Field(
        default=None,
        json_schema_extra=_TIME,
        description="The workflow's time of what is told here, in microseconds; what is older is not written any more.",
    )


class AttemptCounters(TolerantModel):
    """Counts that never go back, whatever attempts are shown."""

    started: int = Field(default=0, ge=0, description="Attempts begun.")
    failed: int = Field(default=0, ge=0, description="Attempts that count against retry.maxAttempts.")
    disrupted: int = Field(default=0, ge=0, description="Attempts lost to preemption, eviction or a lost node.")
    suspended: int = Field(default=0, ge=0, description="Attempts ended by spec.suspend.")
    unplaced: int = Field(default=0, ge=0, description="Attempts that found no node to run on, or no image.")


_FINISHED = "exists(c, c.type == 'Succeeded' && c.status != 'Unknown')"
_VERDICT = "filter(c, c.type == 'Succeeded').map(c, [c.status, c.reason, c.message])"
"""All that must stay. The generation that it speaks of may go on: a TTL can be set after the end."""

UNSEEN: Final[JsonDict] = {
    "phase": "Pending",
    "reason": "Pending",
    "conditions": [
        {
            "type": "Reconciling",
            "status": "True",
            "reason": "Pending",
            "message": "waiting for the Perdure operator to take it up",
            "lastTransitionTime": "1970-01-01T00:00:00Z",
        }
    ],
}
"""The status that the API server itself gives a new object, so that no tool takes it for finished (kstatus reads an
object without conditions as done). Costs no write."""


class TrainingJobStatus(TolerantModel):
    """The state of a training job."""

    model_config = {
        "json_schema_extra": {
            "default": UNSEEN,
            # Enforced where nobody can forget it: by the API server, against zombies, bugs and hands alike.
            **cel.rules(
                cel.rule(
                    f"!has(oldSelf.conditions) || !oldSelf.conditions.{_FINISHED} || (has(self.conditions) && "
                    f"oldSelf.conditions.{_VERDICT} == self.conditions.{_VERDICT} && "
                    f"has(self.phase) && self.phase == oldSelf.phase)",
                    f"{names.FINAL_STATUS_MESSAGE}: its Succeeded condition and its phase cannot change any more",
                )
            ),
        }
    }

    observed_generation: int | None = Field(
        default=None, ge=0, description="Generation of the spec that this speaks of."
    )
    phase: str | None = Field(default=None, max_length=32, description="For people: Pending, Queued, Starting, …")
    reason: str | None = Field(default=None, max_length=64, description="Why it is in this phase, in one word.")
    message: str | None = Field(default=None, max_length=4096, description="Why it is in this phase, in a sentence.")
    conditions: list[Condition] = Field(
        default=[],
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        description="For programs: Accepted, DatasetReady, Running, Succeeded, Reconciling, Stalled.",
    )
    start_time: str | None = Field(default=None, json_schema_extra=_TIME, description="When work on it began.")
    suspended_seconds: int | None = Field(
        default=None, ge=0, description="How long it was suspended: time that deadlines.activeSeconds does not count."
    )
    completion_time: str | None = Field(default=None, json_schema_extra=_TIME, description="When it finished.")
    queue: QueueStatus | None = Field(default=None, description="Its place in line, while it waits for its turn.")
    progress: ProgressStatus | None = Field(default=None, description="How far training is.")
    attempts: list[AttemptStatus] = Field(
        default=[],
        max_length=ATTEMPTS_SHOWN,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["number"]},
        description="The newest attempts.",
    )
    attempt_counters: AttemptCounters | None = Field(default=None, description="Counts over all attempts.")
    checkpoint: CheckpointStatus | None = Field(default=None, description="The newest checkpoint.")
    result: ResultStatus | None = Field(default=None, description="What came out.")
    kueue_queue: str | None = Field(
        default=None, max_length=63, description="The queue of Kueue that Jobs of attempts to come wait in."
    )
    workflow: WorkflowStatus | None = Field(default=None, description="The Temporal workflow behind it.")

    @property
    def terminal(self) -> bool:
        """Whether the job is finished for good."""
        return is_terminal(self.conditions)

    def condition(self, type_: ConditionType) -> Condition | None:
        """The condition of one type."""
        return next((condition for condition in self.conditions if condition.type is type_), None)
