"""Days of waiting, skipped: what is told of them is as if they had passed."""

from __future__ import annotations

from datetime import datetime

import pytest
from temporalio.testing import WorkflowEnvironment

from perdure_api.conditions import ConditionType, Phase
from perdure_api.spec import DeadlinesSpec, RetrySpec
from perdure_api.workflow import SIGNAL_WISHES, Wishes
from tests.workers.workflows.conftest import BUILT_IN, COMPLETED, DISRUPTED, FAILED, Start, World, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOUR_SECONDS = 3600
DAY_SECONDS = 24 * HOUR_SECONDS
TOLERANCE_SECONDS = 20
"""What all the steps of a test may take on a busy machine: that time is real, and passes for the server too."""


def seconds_between(earlier: str | None, later: str | None) -> float:
    assert earlier
    assert later
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


async def test_a_suspended_day_and_hours_of_backing_off_are_told_as_they_passed(
    start: Start, world: World, environment: WorkflowEnvironment
) -> None:
    world.endings = [FAILED, FAILED, DISRUPTED, FAILED, COMPLETED]
    retry = RetrySpec(max_attempts=4, initial_interval_seconds=HOUR_SECONDS, max_interval_seconds=3 * HOUR_SECONDS)
    deadlines = DeadlinesSpec(active_seconds=7 * HOUR_SECONDS)
    handle = await start(BUILT_IN.model_copy(update={"suspend": True, "retry": retry, "deadlines": deadlines}))
    await until(lambda: world.phases == [Phase.SUSPENDED])

    await environment.sleep(DAY_SECONDS)
    await handle.signal(SIGNAL_WISHES, Wishes(generation=2, suspend=False))
    end = await handle.result()

    assert end.phase == "Succeeded", end
    resumed = end.condition(ConditionType.SUSPENDED)
    assert resumed
    assert seconds_between(end.start_time, resumed.last_transition_time) == pytest.approx(
        DAY_SECONDS, abs=TOLERANCE_SECONDS
    )
    pauses = [
        seconds_between(before.end_time, after.start_time)
        for before, after in zip(end.attempts, end.attempts[1:], strict=False)
    ]
    # The third wait is a disruption's, which is short, and the fourth is cut to the longest that the spec allows.
    assert pauses == pytest.approx([HOUR_SECONDS, 2 * HOUR_SECONDS, 1, 3 * HOUR_SECONDS], abs=TOLERANCE_SECONDS)
    whole = seconds_between(end.start_time, end.completion_time)
    assert whole == pytest.approx(DAY_SECONDS + 6 * HOUR_SECONDS + 1, abs=TOLERANCE_SECONDS)
    assert end.attempt_counters
    counters = end.attempt_counters
    assert (counters.started, counters.failed, counters.disrupted, counters.suspended) == (5, 3, 1, 0)


async def test_a_deadline_of_a_day_is_kept_through_hours_of_backing_off(start: Start, world: World) -> None:
    world.endings = [FAILED]
    retry = RetrySpec(max_attempts=1000, initial_interval_seconds=HOUR_SECONDS, max_interval_seconds=HOUR_SECONDS)
    deadlines = DeadlinesSpec(active_seconds=DAY_SECONDS + 1800)

    end = await (await start(BUILT_IN.model_copy(update={"retry": retry, "deadlines": deadlines}))).result()

    assert (end.phase, end.reason) == ("Failed", "DeadlineExceeded")
    whole = seconds_between(end.start_time, end.completion_time)
    assert whole == pytest.approx(DAY_SECONDS + 1800, abs=TOLERANCE_SECONDS)
    assert end.attempt_counters
    assert end.attempt_counters.failed == 25
