"""What is to be done about one TrainingJob, as a pure function of what is known."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from perdure_api import names
from perdure_api.spec import TrainingJobSpec
from perdure_api.trainingjob import SpecError, parse_spec
from perdure_operator.observation import Observation


class Step(Enum):
    """Steps that need no detail."""

    REST = "rest"
    """Nothing to do: the workflow has it, or it is finished."""
    RELEASE = "release"
    """Drop the finalizer without waiting for the workflow: somebody asked for it by annotation."""
    END = "end"
    """Cancel the workflow, wait until it has cleaned up, then drop the finalizer."""
    EXPIRE = "expire"
    """Delete it: it finished ttlSecondsAfterFinished ago."""
    TAKE_BACK = "take_back"
    """Take back that it waits for something: its workflow has finished it, and does not name what others said."""
    ACKNOWLEDGE = "acknowledge"
    """Say that the newest generation was seen: a mutable field changed after the end."""


@dataclass(frozen=True)
class Start:
    """Start the workflow, or find it started."""

    spec: TrainingJobSpec


@dataclass(frozen=True)
class Reject:
    """The spec is none: say so, for good."""

    problem: str


@dataclass(frozen=True)
class Wait:
    """Look again at this time."""

    until: datetime


Decision = Step | Start | Reject | Wait


def decide(seen: Observation, *, started: bool, now: datetime) -> Decision:
    """What is to be done.

    Args:
        seen: The object.
        started: Whether this process has already seen its workflow started.
        now: The time.
    """
    if seen.deleting:
        return _decide_deleting(seen)
    if seen.terminal:
        return _decide_finished(seen, now)
    if started:
        return Step.REST
    try:
        return Start(parse_spec(seen.spec))
    except SpecError as error:
        # Accepted by an older or newer release and running: not ours to fail. Drift repair goes on looking.
        return Step.REST if seen.taken_up else Reject(str(error))


def _decide_deleting(seen: Observation) -> Decision:
    if not seen.held:
        return Step.REST
    return Step.RELEASE if seen.force_delete else Step.END


def _decide_finished(seen: Observation, now: datetime) -> Decision:
    due = _due(seen)
    if due is not None and due <= now:
        return Step.EXPIRE
    if seen.still_waits:
        return Step.TAKE_BACK
    if seen.status.get("observedGeneration", 0) < seen.job.generation:
        return Step.ACKNOWLEDGE
    return Step.REST if due is None else Wait(due)


def _due(seen: Observation) -> datetime | None:
    """When a finished object is to be deleted; None: never."""
    if seen.finished is None or seen.ttl_seconds is None:
        return None
    return seen.finished + timedelta(seconds=seen.ttl_seconds)


def with_finalizer(finalizers: tuple[str, ...]) -> list[str]:
    """The finalizers with ours among them."""
    return [*finalizers, names.FINALIZER]


def without_finalizer(finalizers: tuple[str, ...]) -> list[str]:
    """The finalizers without ours."""
    return [finalizer for finalizer in finalizers if finalizer != names.FINALIZER]
