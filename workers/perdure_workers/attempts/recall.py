"""Going on with a job whose history Temporal has lost: from what the object told, and from what the cluster shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from perdure_api import names
from perdure_api.conditions import ConditionStatus, ConditionType, Reason
from perdure_api.status import AttemptStatus, TrainingJobStatus
from perdure_workers.messages import FoundAttempt
from perdure_workers.watching.facts import Document, job_facts, pod_facts


@dataclass(frozen=True)
class Recollection:
    """Where a job was, as far as anybody can tell."""

    under_way: int | None = None
    """The attempt to be followed under its own number, to whatever end it has come."""
    completed: int | None = None
    """The attempt whose result is still to be collected."""
    lost: tuple[int, ...] = ()
    """Older attempts of which nobody told how they ended."""
    leftovers: tuple[int, ...] = ()
    """What may still run of other attempts, and must not run beside the next one."""


def recollect(status: TrainingJobStatus, found: Sequence[FoundAttempt]) -> Recollection:
    """Where a job was.

    The status may be behind: an attempt's Job is created while its beginning is published, so the newest attempt that
    either shows is the one that counts. It may be ahead, too: what is not there is followed all the same, and then
    counts as lost, for its number must not be used for another one.

    Args:
        status: What the object told.
        found: What the cluster shows.
    """
    told = status.attempts[-1] if status.attempts else None
    begun = max(status.attempt_counters.started if status.attempt_counters else 0, told.number if told else 0)
    shown = max((each.number for each in found), default=0)
    newest = max(begun, shown)
    ended = told.number if told and told.end_time else 0
    if told and told.end_time and told.reason == Reason.COMPLETED:
        return Recollection(completed=told.number, leftovers=_live(found))
    if newest == ended:
        return Recollection(leftovers=_live(found))
    first_untold = (ended or told.number - 1 if told else begun) + 1
    # What holds places for the attempt that is followed stays: that asks for them, too.
    leftovers = tuple(number for number in _live(found) if number not in {newest, names.RESERVATION})
    return Recollection(under_way=newest, lost=tuple(range(first_untold, newest)), leftovers=leftovers)


def attempts_shown(jobs: Sequence[Document], pods: Sequence[Document]) -> list[FoundAttempt]:
    """The attempts that a TrainingJob's Jobs and pods belong to, in the order of their numbers.

    Args:
        jobs: As the API server lists them.
        pods: The same.
    """
    shown: dict[int, FoundAttempt] = {}
    for document in jobs:
        facts = job_facts(document)
        if facts and not facts.foreign:
            number = facts.key.attempt
            shown[number] = FoundAttempt(
                number=number,
                created_at=datetime.fromisoformat(document["metadata"]["creationTimestamp"]).timestamp(),
                nodes=document["spec"].get("completions") or 1,
                live=not (facts.completed or facts.failed),
            )
    for document in pods:
        pod = pod_facts(document)
        if pod and not pod.foreign:
            number = pod.key.attempt
            known = shown.setdefault(number, FoundAttempt(number=number, live=False))
            shown[number] = known.model_copy(update={"live": known.live or not pod.ended})
    return [shown[number] for number in sorted(shown)]


def suspended_seconds(status: TrainingJobStatus, now: datetime) -> float:
    """How long a job was suspended, as far as it told; the time that it was left alone while suspended included."""
    before = float(status.suspended_seconds or 0)
    suspended = status.condition(ConditionType.SUSPENDED)
    if suspended is None or suspended.status is not ConditionStatus.TRUE:
        return before
    return before + max(0.0, (now - datetime.fromisoformat(suspended.last_transition_time)).total_seconds())


def attempt_of(status: TrainingJobStatus, number: int) -> AttemptStatus | None:
    """What was told of one attempt."""
    return next((attempt for attempt in status.attempts if attempt.number == number), None)


def _live(found: Sequence[FoundAttempt]) -> tuple[int, ...]:
    return tuple(sorted(each.number for each in found if each.live))
