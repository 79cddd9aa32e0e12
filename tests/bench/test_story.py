"""Events and actions of recorded histories."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory

from bench.cluster import story
from tests.workers.workflows.record import HISTORIES


def recorded(name: str) -> Sequence[HistoryEvent]:
    (path,) = sorted(HISTORIES.glob(f"*/{name}.json"))[-1:]
    return WorkflowHistory.from_json(name, path.read_text()).events


def scheduled(event_id: int) -> HistoryEvent:
    return HistoryEvent(event_id=event_id, event_type=EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED)


def started(event_id: int, attempt: int) -> HistoryEvent:
    event = HistoryEvent(event_id=event_id, event_type=EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED)
    event.activity_task_started_event_attributes.attempt = attempt
    return event


def marker(name: str, task: int) -> HistoryEvent:
    event = HistoryEvent(event_type=EventType.EVENT_TYPE_MARKER_RECORDED)
    event.marker_recorded_event_attributes.marker_name = name
    event.marker_recorded_event_attributes.workflow_task_completed_event_id = task
    return event


def test_a_recorded_job_has_as_many_events_as_its_history() -> None:
    events = recorded("own-command")

    told = story.told(events)

    assert told.events == len(events)
    assert told.workflow_tasks >= 1
    assert told.actions >= 2
    assert told.bytes_ > 1000


def test_every_further_attempt_of_an_activity_is_an_action() -> None:
    assert story.told([scheduled(1), started(2, attempt=1)]).actions == 1
    assert story.told([scheduled(1), started(2, attempt=3)]).actions == 3
    assert story.told([scheduled(1), started(2, attempt=3)]).activities == 3


def test_local_activities_of_one_workflow_task_are_one_action() -> None:
    told = story.told([marker(story.LOCAL_ACTIVITY, 4), marker(story.LOCAL_ACTIVITY, 4)])

    assert (told.local_activities, told.actions) == (2, 1)
    assert story.told([marker(story.LOCAL_ACTIVITY, 4), marker(story.LOCAL_ACTIVITY, 9)]).actions == 2


def test_a_patch_is_an_action_of_its_own() -> None:
    assert story.told([marker("core_patch", 4), marker("core_patch", 4)]).actions == 2


def test_the_mean_of_none_is_nothing() -> None:
    assert story.mean([]) == {}
    assert story.mean([story.told([scheduled(1)]), story.told([])])["events"] == pytest.approx(0.5)
