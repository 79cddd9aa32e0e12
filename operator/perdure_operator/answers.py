"""What the operator publishes in a TrainingJob's status, and the Events beside it.

On the happy path it publishes nothing: the API server gives a new object the condition Reconciling (its status has a
default), and the workflow speaks for itself within milliseconds. The operator speaks only where no workflow can:
before there is one (Temporal away, a spec that is none, others whose turn it is) and after there is none any more.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final

from perdure_api import names
from perdure_api.conditions import Condition, ConditionStatus, ConditionType, Phase, Reason
from perdure_api.events import EventKind, EventNote
from perdure_api.spec import DeletionPolicy
from perdure_api.status import QueueStatus, TrainingJobStatus, WorkflowStatus
from perdure_operator.admission import EXACT_POSITIONS, Place
from perdure_operator.observation import Observation, moment
from perdure_operator.workflows import Standing

_MESSAGE_LIMIT: Final = 4096
_PROBLEM_LIMIT: Final = 400
"""What to do about it comes last in the message, and an Event holds 1024 characters."""

_HOW_IT_ENDED: Final = {
    Standing.COMPLETED: "completed without leaving an answer",
    Standing.FAILED: "failed",
    Standing.CANCELLED: "was cancelled",
    Standing.TERMINATED: "was terminated",
    Standing.TIMED_OUT: "ran out of time",
}


def waiting_for_temporal(seen: Observation, address: str, now: datetime) -> dict[str, Any]:
    """No workflow can be started or told anything now; what is to be done will be."""
    message = (
        f"{_away(seen, address)} as soon as Temporal answers. If this lasts, look at Temporal and at the operator's "
        f"setting temporal.address"
    )
    return _pending(seen, Reason.TEMPORAL_UNAVAILABLE, message, now)


def temporal_is_back(seen: Observation, now: datetime) -> dict[str, Any]:
    """What takes the place of `waiting_for_temporal`.

    It goes out before the start: after it, it could overtake what the workflow itself says.
    """
    then = "goes on" if seen.taken_up else "is being started"
    return _pending(seen, Reason.PENDING, f"Temporal answers again; the job's workflow {then}", now)


def failing(seen: Observation, problem: str, now: datetime) -> dict[str, Any]:
    """A job whose workflow cannot go on with the workers that there are."""
    return _pending(seen, Reason.WORKFLOW_FAILING, _why_failing(problem), now)


def goes_on(seen: Observation, now: datetime) -> dict[str, Any]:
    """What takes the place of `failing`."""
    return _pending(seen, Reason.PENDING, "the job's workflow does not fail any more; it goes on", now)


def deletion_waits(seen: Observation, reason: Reason, message: str, now: datetime) -> dict[str, Any]:
    """A deleted object that cannot go yet."""
    condition = _condition(seen, ConditionType.RECONCILING, ConditionStatus.TRUE, reason, message[:_MESSAGE_LIMIT], now)
    if not seen.terminal:
        return TrainingJobStatus(observed_generation=seen.job.generation, conditions=[condition]).to_wire()
    # How it ended may be in the operator's own words: those that it names no longer would be removed.
    status = acknowledged(seen)
    others = [each for each in status["conditions"] if each["type"] != ConditionType.RECONCILING]
    return {**status, "conditions": [*others, condition.to_wire()]}


def why_deletion_waits_for_temporal(seen: Observation, address: str) -> str:
    """What keeps a deleted object while Temporal is away, and what to do about it."""
    undone = "its checkpoints cannot be deleted" if seen.terminal else "the job's workflow cannot be cancelled"
    return f"Temporal at {address} cannot be reached, so {undone}, and the deletion waits. {_how_not_to_wait(seen)}"


def why_deletion_waits_for_store(seen: Observation, problem: str) -> str:
    """What keeps a deleted object while the store is away, and what to do about it."""
    told = _shortened(problem)
    return f"the deletion waits until its checkpoints are deleted, too: {told}. {_how_not_to_wait(seen)}"


def queued(seen: Observation, place: Place, now: datetime) -> dict[str, Any]:
    """A job that waits for its turn."""
    where = f"number {place.position}" if place.position <= EXACT_POSITIONS else f"about number {place.position}"
    message = f"waiting for its turn: {where} in line; {place.limits}"
    condition = _condition(seen, ConditionType.RECONCILING, ConditionStatus.TRUE, Reason.QUEUED, message, now)
    return TrainingJobStatus(
        observed_generation=_observed(seen),
        phase=Phase.QUEUED,
        reason=Reason.QUEUED,
        message=message,
        conditions=[condition],
        queue=QueueStatus(position=place.position, time=timestamp(now)),
    ).to_wire()


def left_queue(seen: Observation, now: datetime) -> dict[str, Any]:
    """What takes the place of `queued`: its turn has come, or it was suspended once more."""
    if not seen.taken_up:
        return _pending(seen, Reason.PENDING, "its turn has come; the job's workflow is being started", now)
    if not seen.suspended:
        return nothing()  # its workflow has spoken since
    if seen.suspend:
        status, reason = ConditionStatus.FALSE, Reason.SUSPENDED
        message = "suspended while it waited for its turn; set spec.suspend to false and it waits again"
    else:
        status, reason, message = ConditionStatus.TRUE, Reason.RESUMED, "its turn has come; it goes on"
    return TrainingJobStatus(
        phase=Phase.SUSPENDED,
        reason=reason,
        message=message,
        conditions=[_condition(seen, ConditionType.RECONCILING, status, reason, message, now)],
    ).to_wire()


def withdrawn(seen: Observation, now: datetime) -> dict[str, Any]:
    """A job that was cancelled before it began."""
    conditions = (
        (ConditionType.SUCCEEDED, ConditionStatus.FALSE),
        (ConditionType.RECONCILING, ConditionStatus.FALSE),
        (ConditionType.STALLED, ConditionStatus.TRUE),
    )
    return _failed(seen, Reason.CANCELLED, "cancelled while it waited for its turn; nothing of it ran", conditions, now)


def rejected(seen: Observation, problem: str, now: datetime) -> dict[str, Any]:
    """A spec that this version cannot read: it will not change, so the job has failed."""
    message = f"the spec cannot be used: {problem}. Create a new TrainingJob with a corrected spec"
    conditions = (
        (ConditionType.ACCEPTED, ConditionStatus.FALSE),
        (ConditionType.SUCCEEDED, ConditionStatus.FALSE),
        (ConditionType.RECONCILING, ConditionStatus.FALSE),
        (ConditionType.STALLED, ConditionStatus.TRUE),
    )
    return _failed(seen, Reason.INVALID_SPEC, message, conditions, now)


def lost(seen: Observation, standing: Standing, now: datetime) -> dict[str, Any]:
    """A job whose workflow is closed although it never said how the job ended."""
    message = (
        f"the workflow {seen.job.workflow_id} {_HOW_IT_ENDED.get(standing, 'ended')} in Temporal before the job was "
        f"finished, so nobody looks after it any more. Its history in Temporal says why; to start over, delete this "
        f"TrainingJob (which stops what may still run) and create it again"
    )
    conditions = [
        (ConditionType.SUCCEEDED, ConditionStatus.FALSE),
        (ConditionType.RECONCILING, ConditionStatus.FALSE),
        (ConditionType.STALLED, ConditionStatus.TRUE),
    ]
    if seen.condition(ConditionType.RUNNING) is not None:
        conditions.insert(0, (ConditionType.RUNNING, ConditionStatus.FALSE))
    return _failed(seen, Reason.WORKFLOW_LOST, message, tuple(conditions), now)


def last_word(seen: Observation, status: TrainingJobStatus, now: datetime) -> dict[str, Any]:
    """The final status that a workflow returned but did not get published.

    What it says nothing of stays, since it was published by another manager: so Reconciling is said to be over.
    """
    reason = Reason.FINISHED
    over = _condition(seen, ConditionType.RECONCILING, ConditionStatus.FALSE, reason, "the job is finished", now)
    conditions = [each for each in status.conditions if each.type is not ConditionType.RECONCILING]
    return status.model_copy(
        update={"observed_generation": seen.job.generation, "conditions": [*conditions, over]}
    ).to_wire()


def nothing() -> dict[str, Any]:
    """Takes back whatever the operator has said and nobody has said since."""
    return {}


def acknowledged(seen: Observation) -> dict[str, Any]:
    """The status of a finished job as it is, said of the newest generation.

    All of it, not only the number: apply removes what its manager named before and names no longer, and nobody else
    writes any more.
    """
    generation = seen.job.generation
    conditions = [{**condition, "observedGeneration": generation} for condition in seen.status.get("conditions", [])]
    return {**seen.status, "observedGeneration": generation, "conditions": conditions}


def note_waiting(seen: Observation, address: str) -> EventNote:
    """The Event beside `waiting_for_temporal`."""
    message = f"{_away(seen, address)} as soon as Temporal answers"
    return EventNote(kind=EventKind.WARNING, reason=Reason.TEMPORAL_UNAVAILABLE, message=message)


def note_failing(problem: str) -> EventNote:
    """The Event beside `failing`."""
    return EventNote(kind=EventKind.WARNING, reason=Reason.WORKFLOW_FAILING, message=_why_failing(problem))


def note_deletion_waits(reason: Reason, message: str) -> EventNote:
    """The Event beside `deletion_waits`."""
    return EventNote(kind=EventKind.WARNING, reason=reason, message=message)


def note_slow_end(seen: Observation, waited_seconds: int) -> EventNote:
    """The Event on a deleted object whose workflow does not come to its end."""
    message = (
        f"deleted, but its workflow has not cleaned up after {waited_seconds} s; are the workers running? "
        f"{_how_not_to_wait(seen)}"
    )
    return EventNote(kind=EventKind.WARNING, reason=Reason.CANCELLED, message=message)


def note_slow_purge(seen: Observation, waited_seconds: int) -> EventNote:
    """The Event on a deleted object whose checkpoints are not deleted, and nobody knows why."""
    message = (
        f"deleted, but its checkpoints are still being deleted after {waited_seconds} s; are the workers running? "
        f"{_how_not_to_wait(seen)}"
    )
    return EventNote(kind=EventKind.WARNING, reason=Reason.CANCELLED, message=message)


def note_failed(status: dict[str, Any]) -> EventNote:
    """The Event beside `rejected` and `lost`."""
    return EventNote(kind=EventKind.WARNING, reason=Reason(status["reason"]), message=status["message"])


def _away(seen: Observation, address: str) -> str:
    """What it means for a job that Temporal is away, up to what happens when it is back."""
    running = seen.condition(ConditionType.RUNNING)
    if not seen.taken_up:
        so = "so the job cannot start yet; it starts by itself"
    elif seen.suspended and seen.suspend:
        so = "so the job stays suspended whatever is asked of it; that is seen to"
    elif running is not None and running.status is ConditionStatus.TRUE:
        so = "so what is asked of the job has to wait; its pods run on, and how they end is seen to"
    else:
        so = "so the job cannot go on yet; it goes on by itself"
    return f"Temporal at {address} cannot be reached, {so}"


def _why_failing(problem: str) -> str:
    return (
        f"the job's workflow fails in the workers, again and again: {_shortened(problem)}. Nothing is lost: what runs "
        f"of it runs on, and the workflow goes on by itself with workers that do not fail. Upgrade Perdure, or go back "
        f"to the release before; the workers' log says more"
    )


def _shortened(problem: str) -> str:
    return problem if len(problem) <= _PROBLEM_LIMIT else f"{problem[:_PROBLEM_LIMIT]} …"


def _how_not_to_wait(seen: Observation) -> str:
    which = f"{names.SHORT_NAME} -n {seen.job.namespace} {seen.job.name}"
    force = f"kubectl annotate {which} {names.ANNOTATION_FORCE_DELETE}=true"
    if seen.purge is None:
        return f"To delete it at once, whatever its workflow does: {force}"
    patch = json.dumps({"spec": {"deletionPolicy": DeletionPolicy.KEEP_CHECKPOINTS}})
    return (
        f"To keep the checkpoints: kubectl patch {which} --type=merge -p '{patch}'. "
        f"To delete it at once, and them when that can be done: {force}"
    )


def _pending(seen: Observation, reason: Reason, message: str, now: datetime) -> dict[str, Any]:
    condition = _condition(seen, ConditionType.RECONCILING, ConditionStatus.TRUE, reason, message, now)
    status = TrainingJobStatus(observed_generation=_observed(seen), conditions=[condition])
    if not seen.taken_up:
        # Once a workflow has spoken, the words that people read first are its own.
        status = status.model_copy(update={"phase": Phase.PENDING, "reason": reason, "message": message})
    return status.to_wire()


def _observed(seen: Observation) -> int | None:
    """The generation that the operator may say was seen: of a job that has a workflow only that knows.

    A wish would be taken for heard, and not be told.
    """
    return None if seen.begun else seen.job.generation


def _failed(
    seen: Observation,
    reason: Reason,
    message: str,
    conditions: tuple[tuple[ConditionType, ConditionStatus], ...],
    now: datetime,
) -> dict[str, Any]:
    message = message[:_MESSAGE_LIMIT]
    return TrainingJobStatus(
        observed_generation=seen.job.generation,
        phase=Phase.FAILED,
        reason=reason,
        message=message,
        completion_time=timestamp(now),
        conditions=[_condition(seen, type_, status, reason, message, now) for type_, status in conditions],
        workflow=WorkflowStatus(id=seen.job.workflow_id) if reason is Reason.WORKFLOW_LOST else None,
    ).to_wire()


def _condition(
    seen: Observation, type_: ConditionType, status: ConditionStatus, reason: Reason, message: str, now: datetime
) -> Condition:
    return Condition(
        type=type_,
        status=status,
        reason=reason,
        message=message,
        last_transition_time=_transition(seen, type_, status, now),
        observed_generation=seen.job.generation,
    )


def _transition(seen: Observation, type_: ConditionType, status: ConditionStatus, now: datetime) -> str:
    """When a condition got this status: kept while the status is the same."""
    before = seen.condition(type_)
    if before is None or before.status is not status:
        return timestamp(now)
    # The condition that the API server gives a new object bears no true time; none is older than its object.
    since = moment(before.last_transition_time) or now
    return timestamp(max(since, seen.created or since))


def timestamp(now: datetime) -> str:
    """A time as the API server writes it."""
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")
