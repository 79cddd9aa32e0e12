"""What became of a task, by its history."""

from __future__ import annotations

from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import ApplicationFailureInfo, Failure, TimeoutFailureInfo
from temporalio.api.history.v1 import HistoryEvent

from bench.cluster.tasks import HANDED_OVER, Course, tasks
from perdure_workers.activities.lasting import _handed_over
from tests.bench.test_story import recorded

STOPPING = Failure(message=f"{HANDED_OVER}; the next one goes on", application_failure_info=ApplicationFailureInfo())
TIMED_OUT = Failure(message="activity Heartbeat timeout", timeout_failure_info=TimeoutFailureInfo())
BROKEN = Failure(message="no such file", application_failure_info=ApplicationFailureInfo())


def event(id_: int, kind: str, **attributes: Any) -> HistoryEvent:
    found = HistoryEvent(event_id=id_, event_type=getattr(EventType, f"EVENT_TYPE_ACTIVITY_TASK_{kind}"))
    found.event_time.FromSeconds(id_)
    part = getattr(found, f"activity_task_{kind.lower()}_event_attributes")
    part.SetInParent()
    for name, value in attributes.items():
        if isinstance(value, Failure):
            getattr(part, name).CopyFrom(value)
        else:
            setattr(part, name, value)
    return found


def scheduled(id_: int, type_: str = "embed_texts") -> HistoryEvent:
    found = event(id_, "SCHEDULED")
    found.activity_task_scheduled_event_attributes.activity_type.name = type_
    return found


def history(attempt: int, cause: Failure | None = None, end: str = "COMPLETED") -> list[HistoryEvent]:
    begun = {"last_failure": cause} if cause else {}
    return [
        scheduled(5),
        event(6, "STARTED", scheduled_event_id=5, attempt=attempt, identity="pod-1", **begun),
        event(8, end, scheduled_event_id=5),
    ]


@pytest.mark.parametrize(
    ("attempt", "cause", "course"),
    [
        pytest.param(1, None, Course.ONCE, id="by the first"),
        pytest.param(2, STOPPING, Course.HANDED_OVER, id="by the next, as the first said"),
        pytest.param(2, TIMED_OUT, Course.BEGUN_AGAIN, id="after nobody had said anything"),
        pytest.param(3, BROKEN, Course.BEGUN_AGAIN, id="after it failed"),
    ],
)
def test_a_task_that_is_done_was_begun_once_or_handed_over_or_begun_again(
    attempt: int, cause: Failure | None, course: Course
) -> None:
    (task,) = tasks(history(attempt, cause), "embed_texts")

    assert (task.course, task.attempts, task.worker) == (course, attempt, "pod-1")
    assert (task.scheduled, task.started, task.ended) == (5.0, 6.0, 8.0)
    assert task.cause == (cause.message if cause else "")


@pytest.mark.parametrize("end", ["FAILED", "TIMED_OUT", "CANCELED"])
def test_a_task_that_ends_otherwise_is_not_done(end: str) -> None:
    (task,) = tasks(history(1, end=end), "embed_texts")

    assert task.course is Course.NOT_DONE
    assert task.ended == 8.0


def test_a_task_that_nobody_began_is_not_done() -> None:
    (task,) = tasks([scheduled(5)], "embed_texts")

    assert (task.course, task.attempts, task.cause) == (Course.NOT_DONE, 0, "nobody began")


def test_activities_of_other_types_are_none_of_its_tasks() -> None:
    others = [scheduled(3, "survey_texts"), event(4, "STARTED", scheduled_event_id=3, attempt=7)]

    assert [task.attempts for task in tasks([*others, *history(1)], "embed_texts")] == [1]


def test_a_recorded_history_has_all_its_tasks() -> None:
    found = tasks(recorded("batch-embed"), "embed_texts")

    assert [task.course for task in found] == [Course.ONCE] * 3
    assert all(task.scheduled <= task.started <= task.ended for task in found)


def test_workers_say_it_so_when_they_hand_over() -> None:
    assert str(_handed_over()).startswith(HANDED_OVER)
