"""What became of a task, counted from outside: by its workflow's history in Temporal, which no worker can change."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import ActivityTaskStartedEventAttributes, HistoryEvent

HANDED_OVER: Final = "this worker is stopping"
"""How a worker begins that gives back what it cannot finish before it ends."""
_FAILURES: Final = frozenset({EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED, EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT})
_ENDS: Final = _FAILURES | {
    EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED,
    EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED,
}


class Course(StrEnum):
    """How one activity of a workflow went."""

    ONCE = "begun once, and done"
    HANDED_OVER = "handed over by a worker that stopped, and done"
    """Another worker began where the one before said that it was."""
    BEGUN_AGAIN = "cut off, begun again, and done"
    """Whoever had it was killed, or failed: nobody said how far it was."""
    NOT_DONE = "not done"


@dataclass(frozen=True)
class Task:
    """An activity, from its schedule to its end, in seconds since the epoch."""

    course: Course
    attempts: int
    """How often it was begun."""
    worker: str
    """Who had it last: a pod of the pool, by its name."""
    scheduled: float
    started: float
    """For the last time."""
    ended: float
    cause: str = ""
    """Why it was begun again, or not done."""


def tasks(events: Iterable[HistoryEvent], activity_type: str) -> list[Task]:
    """The activities of one type in a history, as they were scheduled.

    A history has the last start only, with the number of the attempt and what ended the one before: what was handed
    over once and cut off once is what happened last.
    """
    scheduled: dict[int, HistoryEvent] = {}
    started: dict[int, HistoryEvent] = {}
    ended: dict[int, HistoryEvent] = {}
    for event in events:
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            if event.activity_task_scheduled_event_attributes.activity_type.name == activity_type:
                scheduled[event.event_id] = event
        elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
            started[_attributes(event).scheduled_event_id] = event
        elif event.event_type in _ENDS:
            ended[_attributes(event).scheduled_event_id] = event
    return [_task(event, started.get(key), ended.get(key)) for key, event in scheduled.items()]


def _task(scheduled: HistoryEvent, started: HistoryEvent | None, ended: HistoryEvent | None) -> Task:
    first = _seconds(scheduled)
    last = _seconds(ended) if ended else first
    done = ended is not None and ended.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED
    failure = _attributes(ended).failure.message if ended and ended.event_type in _FAILURES else ""
    if started is None:
        return Task(Course.NOT_DONE, 0, "", first, last, last, failure or "nobody began")
    begun = started.activity_task_started_event_attributes
    return Task(
        course=_course(begun) if done else Course.NOT_DONE,
        attempts=begun.attempt,
        worker=begun.identity,
        scheduled=first,
        started=_seconds(started),
        ended=last,
        cause=failure or begun.last_failure.message,
    )


def _course(begun: ActivityTaskStartedEventAttributes) -> Course:
    """Of a task that is done."""
    if begun.attempt == 1:
        return Course.ONCE
    failure = begun.last_failure
    said = failure.HasField("application_failure_info") and failure.message.startswith(HANDED_OVER)
    return Course.HANDED_OVER if said else Course.BEGUN_AGAIN


def _attributes(event: HistoryEvent) -> Any:
    return getattr(event, str(event.WhichOneof("attributes")))


def _seconds(event: HistoryEvent) -> float:
    return event.event_time.ToMicroseconds() / 1e6
