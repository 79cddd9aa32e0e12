"""What a workflow's history costs: events, and actions as Temporal Cloud counts them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Final

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

LOCAL_ACTIVITY: Final = "core_local_activity"
_ONE_ACTION: Final = frozenset(
    {
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
        EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
        EventType.EVENT_TYPE_TIMER_STARTED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED,
        EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES,
        EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED,
        EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW,
    }
)


@dataclass(frozen=True)
class Story:
    """Of one workflow. Heartbeats and queries are actions too, but stand in no history."""

    events: int
    actions: int
    activities: int
    """Attempts of activities that were handed out."""
    local_activities: int
    workflow_tasks: int
    bytes_: int


def told(events: Iterable[HistoryEvent]) -> Story:
    """Counts a history.

    An action is a workflow's start, an attempt of an activity, a timer, a signal, an update, an upsert of search
    attributes, a child's start, a marker (a patch); all local activities of one workflow task together are one.
    """
    events = list(events)
    actions = activities = local = tasks = 0
    with_local_activities: set[int] = set()
    for event in events:
        actions += event.event_type in _ONE_ACTION
        match event.event_type:
            case EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
                # Scheduled once, and once more for each further attempt; only the last start stands in the history.
                retries = event.activity_task_started_event_attributes.attempt - 1
                actions += retries
                activities += retries + 1
            case EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
                tasks += 1
            case EventType.EVENT_TYPE_MARKER_RECORDED:
                marker = event.marker_recorded_event_attributes
                if marker.marker_name == LOCAL_ACTIVITY:
                    local += 1
                    with_local_activities.add(marker.workflow_task_completed_event_id)
                else:
                    actions += 1
            case _:
                pass
    return Story(
        len(events),
        actions + len(with_local_activities),
        activities,
        local,
        tasks,
        sum(event.ByteSize() for event in events),
    )


def mean(stories: Iterable[Story]) -> dict[str, float]:
    """The means of several, by name; empty for none."""
    rows = [asdict(story) for story in stories]
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]} if rows else {}
