"""What is to be done about one TrainingJob, as a pure function of what is known."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Literal

from perdure_api import names
from perdure_api.spec import TrainingJobSpec
from perdure_api.trainingjob import SpecError, parse_spec
from perdure_api.workflow import CheckpointRequest, Wishes
from perdure_operator.admission import Place, Turn, worth_telling
from perdure_operator.observation import Observation


class Step(Enum):
    """Steps that need no detail."""

    REST = "rest"
    """Nothing to do: the workflow has it, or it is finished."""
    RELEASE = "release"
    """Drop the finalizer without waiting for the workflow: somebody asked for it by annotation."""
    END = "end"
    """Cancel the workflow, wait until it has cleaned up and its checkpoints are deleted if they are to be, then drop
    the finalizer."""
    CANCEL = "cancel"
    """Ask the workflow to end for good: somebody wants that by annotation."""
    EXPIRE = "expire"
    """Delete it: it finished ttlSecondsAfterFinished ago."""
    TAKE_BACK = "take_back"
    """Take back that it waits for something: its workflow has finished it, and does not name what others said."""
    LEAVE_QUEUE = "leave_queue"
    """Say that it waits for its turn no longer. Written down before it goes on: a restart then knows that it may."""
    WITHDRAW = "withdraw"
    """End it for good where it waits: somebody wants that by annotation, and no workflow knows of it."""
    GOES_ON = "goes_on"
    """Say that its workflow does not fail any more."""
    ACKNOWLEDGE = "acknowledge"
    """Say that the newest generation was seen: a mutable field changed after the end."""


@dataclass(frozen=True)
class Start:
    """Start the workflow, or find it started."""

    spec: TrainingJobSpec


@dataclass(frozen=True)
class TellWishes:
    """Tell the workflow what has changed in the spec."""

    wishes: Wishes


@dataclass(frozen=True)
class AskCheckpoint:
    """Ask the workflow for a checkpoint."""

    request: CheckpointRequest


@dataclass(frozen=True)
class Reject:
    """The spec is none: say so, for good."""

    problem: str


@dataclass(frozen=True)
class TellPlace:
    """Say where in line it waits."""

    place: Place


@dataclass(frozen=True)
class TellFailure:
    """Say that the code of its workflow fails."""

    problem: str


@dataclass(frozen=True)
class Wait:
    """Look again at this time."""

    until: datetime


@dataclass(frozen=True)
class Told:
    """What this process has told a workflow. To tell it again does no harm: each says the same twice."""

    generation: int = 0
    """Of the spec."""
    checkpoint_request: str = ""
    kueue_queue: str | None = None
    """None: nothing."""
    cancelled: bool = False


Decision = Step | Start | TellWishes | AskCheckpoint | Reject | TellPlace | TellFailure | Wait


def decide(
    seen: Observation,
    *,
    started: bool,
    now: datetime,
    told: Told = Told(),
    turn: Turn | Place = Turn.COME,
    failure: str | None = None,
) -> Decision:
    """What is to be done; once it is, there may be more: decide again.

    Args:
        seen: The object.
        started: Whether this process has already seen its workflow started.
        now: The time.
        told: What it has told the workflow since.
        turn: Whether the job may go on.
        failure: What the code of its workflow fails with; empty: it does not; None: nobody has looked.
    """
    if seen.deleting:
        return _decide_deleting(seen)
    if seen.terminal:
        return _decide_finished(seen, now)
    if turn is Turn.COME:
        if seen.queued:
            return Step.LEAVE_QUEUE
    elif not (seen.cancel and seen.begun):
        return _decide_waiting(seen, turn)
    if started:
        return _decide_failing(seen, failure) or _decide_running(seen, told)
    return _decide_new(seen)


def _decide_new(seen: Observation) -> Start | Reject | Literal[Step.REST]:
    try:
        return Start(parse_spec(seen.spec))
    except SpecError as error:
        # Accepted by an older or newer release and running: not ours to fail. Drift repair goes on looking.
        return Step.REST if seen.taken_up else Reject(str(error))


def _decide_waiting(seen: Observation, turn: Turn | Place) -> Decision:
    """Its workflow, if it has one, is not told of any wish: it would go on."""
    if not seen.begun:
        if seen.cancel:
            return Step.WITHDRAW
        if isinstance(decision := _decide_new(seen), Reject):
            # What is wrong with it is told at once, not when its turn comes.
            return decision
    return TellPlace(turn) if isinstance(turn, Place) and place_is_news(seen, turn) else Step.REST


def place_is_news(seen: Observation, place: Place) -> bool:
    """Whether it is worth a write that an object waits in this place."""
    if not seen.begun and seen.observed_generation < seen.job.generation:
        return True
    return worth_telling(seen.position, place.position) or not seen.message.endswith(place.limits)


def _decide_running(seen: Observation, told: Told) -> Decision:
    if seen.cancel:
        return Step.REST if told.cancelled else Step.CANCEL
    # With the first generation the workflow was started.
    spec_is_news = seen.job.generation > max(seen.observed_generation, told.generation, 1)
    if spec_is_news or _queue_is_news(seen, told):
        return TellWishes(seen.wishes)
    request = CheckpointRequest(id=seen.checkpoint_request, reason=seen.checkpoint_request)
    if request.id and request.id != told.checkpoint_request:
        return AskCheckpoint(request)
    return Step.REST


def _decide_failing(seen: Observation, failure: str | None) -> TellFailure | Literal[Step.GOES_ON] | None:
    if failure and not seen.says_that_it_fails:
        return TellFailure(failure)
    return Step.GOES_ON if failure == "" and seen.says_that_it_fails else None


def _queue_is_news(seen: Observation, told: Told) -> bool:
    """Whether the label of Kueue's queue is another one than the workflow knows: labels change no generation."""
    if told.kueue_queue is not None:
        return seen.kueue_queue != told.kueue_queue
    return seen.spoken_for and seen.kueue_queue != (seen.status.get("kueueQueue") or "")


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
    if seen.observed_generation < seen.job.generation:
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
