"""A new workflow for a job whose history Temporal has lost: it goes on with what the object and the cluster tell."""

from __future__ import annotations

import pytest

from perdure_api.conditions import Condition, ConditionStatus, ConditionType, Phase, Reason
from perdure_api.spec import AlternativeSpec, DeadlinesSpec, ResourcesSpec
from perdure_api.status import AttemptCounters, AttemptStatus, TrainingJobStatus
from perdure_api.workflow import SIGNAL_WISHES, Wishes
from perdure_workers.messages import FoundAttempt
from tests.workers.workflows.conftest import BUILT_IN, COMPLETED, DISRUPTED, FAILED, OWN, Start, World, until

pytestmark = [pytest.mark.temporal, pytest.mark.asyncio(loop_scope="module")]

BEGUN = "2026-01-01T00:00:00Z"


def attempt(number: int, reason: Reason | None = None, **more: int) -> AttemptStatus:
    return AttemptStatus(
        number=number, job=f"job-{number}", start_time=BEGUN, end_time=BEGUN if reason else None, reason=reason, **more
    )


def told(*attempts: AttemptStatus, failed: int = 0, **more: object) -> TrainingJobStatus:
    newest = attempts[-1].number if attempts else 0
    return TrainingJobStatus(
        start_time=BEGUN,
        attempts=list(attempts),
        attempt_counters=AttemptCounters(started=newest, failed=failed),
    ).model_copy(update=more)


async def test_an_attempt_under_way_is_followed_under_its_own_number_and_counts_go_on(
    start: Start, world: World
) -> None:
    world.found = [FoundAttempt(number=1, live=False), FoundAttempt(number=2)]
    world.endings = [FAILED, COMPLETED]
    before = told(attempt(1, Reason.FAILED), attempt(2), failed=1)

    handle = await start(BUILT_IN, recalled=before)
    status = await handle.result()

    assert world.monitored == [2, 3]
    assert [request.attempt for request in world.created] == [3], "what has begun is not made again"
    assert world.checked == 0
    assert [(each.number, each.reason) for each in status.attempts] == [(1, "Failed"), (2, "Failed"), (3, "Completed")]
    assert status.attempt_counters
    assert (status.attempt_counters.started, status.attempt_counters.failed) == (3, 2)
    assert status.start_time == BEGUN
    assert status.workflow
    assert status.workflow.run_id == handle.first_execution_run_id
    first = world.published[0]
    assert (first.status.reason, first.notes[0].reason) == (Reason.RECALLED, Reason.RECALLED)
    assert first.status.message == "Temporal has lost the history of this job; it goes on with attempt 2"
    assert world.cleaned == []


async def test_the_retry_budget_is_what_was_left_of_it(start: Start, world: World) -> None:
    world.endings = [FAILED]
    before = told(attempt(1, Reason.FAILED), attempt(2, Reason.FAILED), attempt(3), failed=2)

    status = await (await start(BUILT_IN, recalled=before)).result()

    assert (status.reason, world.monitored, world.created) == (Reason.MAX_ATTEMPTS_REACHED, [3], [])


async def test_the_newest_attempt_of_the_cluster_is_followed_where_the_status_is_behind(
    start: Start, world: World
) -> None:
    world.found = [FoundAttempt(number=1, live=False), FoundAttempt(number=2, nodes=2, created_at=1767225660.0)]

    status = await (await start(OWN, recalled=told(attempt(1)))).result()

    assert (world.monitored, world.created) == ([2], [])
    lost, followed = status.attempts
    assert (lost.reason, lost.message) == (
        Reason.DISRUPTED,
        "Temporal lost its history before anybody was told how this attempt ended",
    )
    assert (followed.start_time, followed.nodes, followed.job) == ("2026-01-01T00:01:00Z", 2, "job-2")
    assert status.attempt_counters
    assert (status.attempt_counters.started, status.attempt_counters.disrupted) == (2, 1)


async def test_between_two_attempts_what_is_left_of_older_ones_goes_before_the_next_begins(
    start: Start, world: World
) -> None:
    world.found = [FoundAttempt(number=1)]

    status = await (await start(OWN, recalled=told(attempt(1, Reason.DISRUPTED)))).result()

    assert [(each.attempt, each.until_gone) for each in world.cleaned] == [(1, True)]
    assert [request.attempt for request in world.created] == [2]
    assert [each.number for each in status.attempts] == [1, 2]


async def test_what_runs_beside_the_attempt_that_is_followed_is_ended_but_not_waited_for(
    start: Start, world: World
) -> None:
    world.found = [FoundAttempt(number=1), FoundAttempt(number=2)]

    await (await start(OWN, recalled=told(attempt(1, Reason.DISRUPTED), attempt(2)))).result()

    assert [(each.attempt, each.until_gone) for each in world.cleaned] == [(1, False)]
    assert world.monitored == [2]


async def test_a_job_that_was_collecting_its_result_goes_on_with_that(start: Start, world: World) -> None:
    status = await (await start(BUILT_IN, recalled=told(attempt(1, Reason.COMPLETED)))).result()

    assert (status.phase, world.created, world.monitored) == ("Succeeded", [], [])
    assert status.result
    assert status.result.adapter_uri == "s3://b/adapter"


async def test_a_job_that_was_checking_its_inputs_does_so_again(start: Start, world: World) -> None:
    status = await (await start(BUILT_IN, recalled=told())).result()

    assert (status.phase, world.checked, world.monitored) == ("Succeeded", 1, [1])


def suspended(since: str = BEGUN) -> list[Condition]:
    return [
        Condition(
            type=ConditionType.SUSPENDED, status=ConditionStatus.TRUE, reason="Suspended", last_transition_time=since
        )
    ]


async def test_a_suspended_job_stays_so_and_its_suspended_time_does_not_count(start: Start, world: World) -> None:
    """It began long ago: had the time counted, its deadline would be over."""
    spec = OWN.model_copy(update={"suspend": True, "deadlines": DeadlinesSpec(active_seconds=3600)})
    before = told(attempt(1, Reason.SUSPENDED), conditions=suspended())

    handle = await start(spec, recalled=before)
    await handle.signal(SIGNAL_WISHES, Wishes(generation=2, suspend=False))
    status = await handle.result()

    assert (status.phase, world.monitored) == ("Succeeded", [2])
    assert status.suspended_seconds
    assert status.suspended_seconds > 0


async def test_what_was_resumed_meanwhile_is_no_longer_told_to_be_suspended(start: Start, world: World) -> None:
    before = told(attempt(1, Reason.SUSPENDED), conditions=suspended())

    status = await (await start(OWN, recalled=before)).result()

    assert world.published[0].status.phase != "Suspended"
    assert (status.phase, world.monitored) == ("Succeeded", [2])


async def test_an_attempt_that_was_told_to_end_is_ended_before_the_job_says_that_it_is_suspended(
    start: Start, world: World
) -> None:
    world.found = [FoundAttempt(number=1)]
    world.monitor_for_ever, world.endings = True, [DISRUPTED]

    handle = await start(OWN.model_copy(update={"suspend": True}), recalled=told(attempt(1)))
    await handle.signal(SIGNAL_WISHES, Wishes(generation=2, suspend=True))
    await until(lambda: world.phases[-1:] == [Phase.SUSPENDED])
    cleaned = [each.attempt for each in world.cleaned]
    # Whether anybody still saw the first one's end is open: it may be over before its monitor begins.
    world.monitor_for_ever, world.endings = False, [COMPLETED]
    await handle.signal(SIGNAL_WISHES, Wishes(generation=3, suspend=False))
    status = await handle.result()

    assert cleaned[:1] == [1]
    assert [(each.number, each.reason) for each in status.attempts] == [(1, "Suspended"), (2, "Completed")]
    assert status.attempt_counters
    assert (status.attempt_counters.suspended, status.attempt_counters.disrupted) == (1, 0)


async def test_the_place_of_the_newest_attempt_is_gone_on_with(start: Start, world: World) -> None:
    resources = ResourcesSpec(nodes=3, min_nodes=1, alternatives=[AlternativeSpec(cpu="1")], cpu="8")
    before = told(attempt(1, Reason.NO_CAPACITY, nodes=3), attempt(2, Reason.DISRUPTED, nodes=2, alternative=0))

    status = await (await start(BUILT_IN.model_copy(update={"resources": resources}), recalled=before)).result()

    asked = world.created[0].spec.resources
    assert asked
    assert (asked.cpu, asked.nodes) == ("1", 2)
    assert (status.attempts[-1].nodes, status.attempts[-1].alternative) == (2, 0)
