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
    SUSPENDED = "Suspended"
    """True from when spec.suspend has taken its pods away until it goes on: what is saved stays."""
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
    """The spec makes sense, and a workflow has taken it up."""
    INVALID_SPEC = "InvalidSpec"
    """The spec is not one; the message names each field."""
    TEMPORAL_UNAVAILABLE = "TemporalUnavailable"
    """Temporal does not answer; it is tried for ever."""
    WORKFLOW_LOST = "WorkflowLost"
    """The workflow ended without an answer (terminated, or its history is gone)."""
    WORKFLOW_FAILING = "WorkflowFailing"
    """The workflow's own code fails in the workers, again and again; nothing is lost, and other workers may go on."""
    CANCELLED = "Cancelled"
    """Somebody cancelled the workflow."""

    # the data
    DATASET_CHECKED = "DatasetChecked"
    """The dataset was read and can be trained on."""
    NOT_CHECKED = "NotChecked"
    """Nothing to check: a trainer of the user's own, or a file in the image."""
    DATASET_NOT_FOUND = "DatasetNotFound"
    """Nothing is at the dataset's URI."""
    DATASET_EMPTY = "DatasetEmpty"
    """The dataset holds no text."""
    DATASET_BROKEN = "DatasetBroken"
    """The dataset cannot be read as what it is said to be; the message names the line."""
    MODEL_NOT_FOUND = "ModelNotFound"
    """No model is in the folder."""
    MODEL_BROKEN = "ModelBroken"
    """The folder holds something that is no causal language model."""
    OUTPUT_NOT_FOUND = "OutputNotFound"
    """There is no bucket of that name to keep the work in."""
    ACCESS_DENIED = "AccessDenied"
    """The store says no to these credentials, or there are none."""
    STORE_UNAVAILABLE = "StoreUnavailable"
    """The store does not answer, or with errors of its own; it is waited for."""

    # the course of things
    PENDING = "Pending"
    """Nobody has looked at it yet."""
    QUEUED = "Queued"
    """It waits for its turn: as many jobs run as the installation's limits allow, or Kueue has no room for it yet."""
    CHECKING = "Checking"
    """Model and dataset are being looked at."""
    STARTING = "Starting"
    """An attempt's pod is on its way."""
    POD_RUNNING = "PodRunning"
    """An attempt's pod runs."""
    RETRYING = "Retrying"
    """An attempt ended badly; the next one comes after a pause."""
    STOPPING = "Stopping"
    """An attempt's pods are being ended, because its Job was deleted or suspended."""
    SUSPENDED = "Suspended"
    """spec.suspend keeps it from running."""
    RESUMED = "Resumed"
    """spec.suspend was taken back."""
    CHECKPOINT_ASKED = "CheckpointAsked"
    """Somebody asked for a checkpoint now."""
    REGROWN = "Regrown"
    """The nodes that it lacked are there; it goes on with all of them."""
    RECALLED = "Recalled"
    """Temporal has lost the history of its workflow; a new one goes on from what the object and the cluster tell."""
    FINISHED = "Finished"
    """It is over; the Succeeded condition says how."""

    # what a trainer found on its way
    CHECKPOINT_BROKEN = "CheckpointBroken"
    """A checkpoint is not what was written; training went on from an older one, or from the beginning."""
    CHECKPOINT_SAVED = "CheckpointSaved"
    """A checkpoint that somebody asked for is saved."""
    CHECKPOINT_NOT_SAVED = "CheckpointNotSaved"
    """A checkpoint could not be written; it is tried again."""

    # how an attempt ended
    COMPLETED = "Completed"
    """Training came to its end."""
    FAILED = "Failed"
    """The container ended with an error that another attempt may not meet, or did not begin in time."""
    PERMANENT_ERROR = "PermanentError"
    """The container ended with an exit code after which another attempt can only end in the same way."""
    PROTOCOL_ERROR = "ProtocolError"
    """The built-in trainer ended with 0, but left no result or a broken one."""
    DISRUPTED = "Disrupted"
    """The pod was preempted, evicted, deleted, or its node lost it. Does not count against retry.maxAttempts."""
    OUT_OF_MEMORY = "OutOfMemory"
    """The container needed more memory than it may use, or than the GPU has."""
    OUT_OF_DISK = "OutOfDisk"
    """The pod wrote more to its node's disk than it may."""
    PEER_LOST = "PeerLost"
    """One of several nodes hung, or the others could no longer reach it, and nothing in the cluster says why."""
    HUNG = "Hung"
    """It made no progress for deadlines.progressSeconds, and was ended."""
    NO_CAPACITY = "NoCapacity"
    """No node can take the pod."""
    IMAGE_PULL_FAILED = "ImagePullFailed"
    """The image cannot be pulled."""
    CANNOT_START = "CannotStart"
    """The container can never start as it is written (no such command, no such Secret)."""
    JOB_REFUSED = "JobRefused"
    """The API server would not take the Job or its pod (quota, admission)."""
    JOB_DELETED = "JobDeleted"
    """Somebody deleted the attempt's Job."""
    FENCED = "Fenced"
    """A newer attempt has taken over."""
    DIVERGED = "Diverged"
    """The loss is no longer a number."""
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    """It took longer than spec.deadlines allows."""
    MAX_ATTEMPTS_REACHED = "MaxAttemptsReached"
    """As many attempts failed as retry.maxAttempts allows."""


class Phase(StrEnum):
    """The one word that people read first."""

    PENDING = "Pending"
    QUEUED = "Queued"
    STARTING = "Starting"
    RUNNING = "Running"
    RETRYING = "Retrying"
    SUSPENDED = "Suspended"
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
    reconciling = by_type.get(ConditionType.RECONCILING)
    if reconciling and reconciling.status is ConditionStatus.TRUE and reconciling.reason == Reason.QUEUED:
        return Phase.QUEUED
    suspended = by_type.get(ConditionType.SUSPENDED)
    if suspended and suspended.status is ConditionStatus.TRUE:
        return Phase.SUSPENDED
    running = by_type.get(ConditionType.RUNNING)
    if running is None:
        return Phase.PENDING
    if running.status is ConditionStatus.TRUE or running.reason == Reason.FINISHED:
        return Phase.RUNNING  # Finished: no pod runs any more, and its result is still collected
    waiting: Mapping[str, Phase] = {Reason.RETRYING: Phase.RETRYING, Reason.QUEUED: Phase.QUEUED}
    return waiting.get(running.reason, Phase.STARTING)


def is_terminal(conditions: Iterable[Condition]) -> bool:
    """Whether the job is finished for good: such a job never starts again."""
    return any(
        condition.type is ConditionType.SUCCEEDED and condition.status is not ConditionStatus.UNKNOWN
        for condition in conditions
    )
