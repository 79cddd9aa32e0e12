from __future__ import annotations

from datetime import datetime

import pytest
from temporalio.api.enums.v1 import EventType

from perdure_api.conditions import ConditionStatus, ConditionType, Reason
from perdure_api.pod import CheckpointRef, TerminationMessage
from perdure_api.spec import AlternativeSpec, DeadlinesSpec, ResourcesSpec, TrainingJobSpec
from perdure_api.status import TrainingJobStatus
from perdure_api.workflow import SIGNAL_WISHES, Wishes
from perdure_workers.attempts.outcome import Outcome
from perdure_workers.messages import Collected, Input, InputsChecked
from tests.workers.workflows.conftest import (
    API_SERVER_AWAY,
    BUILT_IN,
    COMPLETED,
    DISRUPTED,
    FAILED,
    OWN,
    STORE_AWAY,
    Start,
    World,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


def succeeded(status: TrainingJobStatus) -> ConditionStatus:
    condition = status.condition(ConditionType.SUCCEEDED)
    assert condition
    return condition.status


def seconds_between(status: TrainingJobStatus, first: int, second: int) -> float:
    ended, started = status.attempts[first].end_time, status.attempts[second].start_time
    assert ended
    return (datetime.fromisoformat(started) - datetime.fromisoformat(ended)).total_seconds()


def events(world: World) -> list[tuple[str, str]]:
    """All that were recorded, in their order."""
    return [(str(note.reason), note.message) for each in world.published for note in each.notes]


async def test_a_command_of_ones_own_succeeds_with_two_status_writes_and_one_event(start: Start, world: World) -> None:
    status = await (await start(OWN)).result()

    assert succeeded(status) is ConditionStatus.TRUE
    assert world.phases == ["Starting", "Succeeded"]
    assert sum(len(each.notes) for each in world.published) == 1
    assert world.checked == 0


async def test_the_built_in_trainer_ends_with_its_adapter_and_both_losses(start: Start, world: World) -> None:
    status = await (await start(BUILT_IN)).result()

    assert status.result
    assert (status.result.adapter_uri, status.result.result_uri) == ("s3://b/adapter", "s3://b/result.json")
    assert status.message == "adapter s3://b/adapter; held-out loss 3 → 2"
    reconciling = status.condition(ConditionType.RECONCILING)
    assert reconciling
    assert reconciling.status is ConditionStatus.FALSE
    assert world.published[-1].status == status


async def test_failures_wait_longer_each_time_and_then_end_it(start: Start, world: World) -> None:
    world.endings = [FAILED]

    status = await (await start(BUILT_IN)).result()

    assert (status.phase, status.reason) == ("Failed", Reason.MAX_ATTEMPTS_REACHED)
    assert [attempt.reason for attempt in status.attempts] == ["Failed"] * 3
    assert seconds_between(status, 0, 1) == pytest.approx(100, abs=20)
    assert seconds_between(status, 1, 2) == pytest.approx(200, abs=20)
    assert status.condition(ConditionType.STALLED)


async def test_a_lost_attempt_does_not_use_up_the_retry_budget(start: Start, world: World) -> None:
    world.endings = [DISRUPTED, FAILED, DISRUPTED, FAILED, DISRUPTED, COMPLETED]

    status = await (await start(BUILT_IN)).result()

    assert status.phase == "Succeeded"
    assert status.attempt_counters
    assert (status.attempt_counters.started, status.attempt_counters.failed, status.attempt_counters.disrupted) == (
        6,
        2,
        3,
    )


async def test_only_the_newest_attempts_are_shown_and_all_are_counted(start: Start, world: World) -> None:
    world.endings = [*[DISRUPTED] * 14, COMPLETED]

    status = await (await start(OWN)).result()

    assert [attempt.number for attempt in status.attempts] == list(range(6, 16))
    assert status.attempt_counters
    assert status.attempt_counters.started == 15


async def test_a_store_that_is_away_is_waited_for_and_told_of(start: Start, world: World) -> None:
    world.checks = [*[Reason.STORE_UNAVAILABLE] * 9, *world.checks]

    status = await (await start(BUILT_IN)).result()

    assert status.phase == "Succeeded"
    told = [each for each in world.published if each.status.reason == Reason.STORE_UNAVAILABLE]
    assert len(told) == 9
    assert told[0].notes[0].reason is Reason.STORE_UNAVAILABLE


async def test_a_broken_dataset_ends_it_before_any_job_is_made(start: Start, world: World) -> None:
    world.checks = [Reason.DATASET_BROKEN]

    status = await (await start(BUILT_IN)).result()

    ready = status.condition(ConditionType.DATASET_READY)
    assert ready
    assert (ready.status, ready.reason) == (ConditionStatus.FALSE, Reason.DATASET_BROKEN)
    assert status.phase == "Failed"
    assert world.created == []


async def test_a_refused_model_is_not_the_datasets_fault(start: Start, world: World) -> None:
    world.checks, world.about = [Reason.ACCESS_DENIED], Input.MODEL

    status = await (await start(BUILT_IN)).result()

    ready = status.condition(ConditionType.DATASET_READY)
    assert ready
    assert (ready.status, ready.reason) == (ConditionStatus.UNKNOWN, Reason.NOT_CHECKED)
    assert (status.phase, status.reason) == ("Failed", Reason.ACCESS_DENIED)


async def test_a_dataset_that_was_not_read_is_not_said_to_be_checked(start: Start, world: World) -> None:
    world.checks = [InputsChecked(message="in the image", reason=Reason.NOT_CHECKED)]

    status = await (await start(BUILT_IN)).result()

    ready = status.condition(ConditionType.DATASET_READY)
    assert ready
    assert (ready.status, ready.reason, ready.message) == (ConditionStatus.TRUE, Reason.NOT_CHECKED, "in the image")


async def test_a_store_that_is_away_with_the_result_is_waited_for_and_told_of_once(start: Start, world: World) -> None:
    world.results = [*[STORE_AWAY] * 9, *world.results]

    status = await (await start(BUILT_IN)).result()

    assert status.phase == "Succeeded"
    (told,) = [each for each in world.published if each.status.reason == Reason.STORE_UNAVAILABLE]
    assert [note.reason for note in told.notes] == [Reason.STORE_UNAVAILABLE]
    reconciling = told.status.condition(ConditionType.RECONCILING)
    assert reconciling
    assert (reconciling.status, reconciling.reason) == (ConditionStatus.TRUE, Reason.STORE_UNAVAILABLE)


async def test_a_refused_job_is_tried_again_and_told_of(start: Start, world: World) -> None:
    world.creations = [Reason.JOB_REFUSED, Reason.JOB_REFUSED, None]

    status = await (await start(OWN)).result()

    assert status.phase == "Succeeded"
    assert [each.status.reason for each in world.published].count(Reason.JOB_REFUSED) == 2
    assert len(world.created) == 1


async def test_a_job_that_is_refused_for_too_long_fails_with_the_refusal(start: Start, world: World) -> None:
    world.creations = [Reason.JOB_REFUSED]
    spec = OWN.model_copy(update={"deadlines": DeadlinesSpec(start_seconds=120)})

    status = await (await start(spec)).result()

    assert (status.phase, status.reason) == ("Failed", Reason.JOB_REFUSED)


async def test_a_built_in_trainer_without_a_result_is_a_protocol_error(start: Start, world: World) -> None:
    world.results = [Collected(problem="no result document at s3://b/…")]

    status = await (await start(BUILT_IN)).result()

    assert (status.phase, status.reason) == ("Failed", Reason.PROTOCOL_ERROR)


async def test_a_pod_that_remains_is_removed_before_anything_else(start: Start, world: World) -> None:
    world.endings = [Outcome(reason=Reason.NO_CAPACITY, message="0/2 nodes", pod_remains=True)]

    status = await (await start(OWN)).result()

    assert (status.phase, status.reason) == ("Failed", Reason.NO_CAPACITY)
    assert [each.attempt for each in world.cleaned] == [1]


@pytest.mark.parametrize(("spec", "fenced"), [(BUILT_IN, True), (OWN, False)], ids=["built in", "of one's own"])
async def test_pods_on_a_lost_node_are_waited_for_unless_they_are_fenced(
    start: Start, world: World, spec: TrainingJobSpec, *, fenced: bool
) -> None:
    world.endings = [Outcome(reason=Reason.HUNG, message="no progress", pod_remains=True), COMPLETED]

    status = await (await start(spec)).result()

    assert status.phase == "Succeeded"
    assert world.fenced == [fenced, fenced]
    assert [(each.attempt, each.until_gone) for each in world.cleaned] == [(1, not fenced)]


async def test_a_job_that_takes_too_long_is_ended_and_cleaned_up(start: Start, world: World) -> None:
    world.endings = [FAILED]
    spec = BUILT_IN.model_copy(update={"deadlines": DeadlinesSpec(active_seconds=150)})

    status = await (await start(spec)).result()

    assert (status.phase, status.reason) == ("Failed", Reason.DEADLINE_EXCEEDED)
    assert len(world.cleaned) == 1


async def test_a_run_that_goes_on_after_a_cut_history_counts_on_and_checks_nothing_again(
    start: Start, world: World
) -> None:
    world.endings = [DISRUPTED, DISRUPTED, COMPLETED]
    before = await (await start(BUILT_IN)).result()
    carried = before.model_copy(update={"conditions": before.conditions[:2]})
    checked = world.checked

    status = await (await start(BUILT_IN, carried)).result()

    assert world.checked == checked
    assert [attempt.number for attempt in status.attempts] == [1, 2, 3, 4]


async def test_the_status_query_tells_what_was_published(start: Start, world: World) -> None:
    handle = await start(OWN)
    await handle.result()

    assert await handle.query("status", result_type=TrainingJobStatus) == world.published[-1].status


async def test_a_job_that_finds_no_place_goes_to_its_alternatives_then_to_fewer_nodes(
    start: Start, world: World
) -> None:
    def no_place(nodes: int) -> Outcome:
        return Outcome(reason=Reason.NO_CAPACITY, message="0/2 nodes", pod_remains=True, placed_nodes=nodes)

    world.endings = [no_place(1), no_place(2), DISRUPTED, COMPLETED]
    resources = ResourcesSpec(nodes=3, min_nodes=2, alternatives=[AlternativeSpec(cpu="1")], cpu="8")

    status = await (await start(BUILT_IN.model_copy(update={"resources": resources}))).result()

    asked = [each.spec.resources for each in world.created]
    assert [each and (each.cpu, each.nodes) for each in asked] == [("8", 3), ("1", 3), ("1", 2), ("1", 2)]
    assert status.phase == "Succeeded"
    assert [attempt.nodes for attempt in status.attempts] == [3, 3, 2, 2]
    assert [each.attempt for each in world.cleaned] == [1, 2], "what found no place is taken away first"
    assert status.attempt_counters
    counters = status.attempt_counters
    assert (counters.unplaced, counters.failed, counters.disrupted) == (2, 0, 1)
    told = [message for _, message in events(world)]
    assert told[1] == "attempt 1: 0/2 nodes; the next attempt asks for resources.alternatives[0]"
    assert told[3].endswith("the next attempt asks for resources.alternatives[0] on 2 instead of 3 nodes")


def shrunk(world: World, *later: Outcome) -> TrainingJobSpec:
    """The spec of a job of which at first one of three nodes has no place, and how its attempts end."""
    no_place = Outcome(reason=Reason.NO_CAPACITY, message="0/2 nodes", pod_remains=True, placed_nodes=2)
    world.endings = [no_place, *later]
    return BUILT_IN.model_copy(update={"resources": ResourcesSpec(nodes=3, min_nodes=1, regrow=True)})


async def test_a_job_with_fewer_nodes_goes_on_with_all_as_soon_as_there_is_room(start: Start, world: World) -> None:
    saved = Outcome(
        reason=Reason.DISRUPTED,
        message="told to stop",
        words=TerminationMessage(checkpoint=CheckpointRef(uri="s3://b/c", step=7)),
    )
    world.room = True
    world.lasting = {2}

    status = await (await start(shrunk(world, saved, COMPLETED))).result()

    assert status.phase == "Succeeded"
    assert [(each.reason, each.nodes) for each in status.attempts] == [
        (Reason.NO_CAPACITY, 3), (Reason.REGROWN, 2), (Reason.COMPLETED, 3),
    ]  # fmt: skip
    assert [(each.attempt, each.missing) for each in world.asked_room] == [(2, 1)]
    assert "the checkpoint of step 7 is saved" in (status.attempts[1].message or "")
    assert [each.attempt for each in world.cleaned] == [1, 2, 0], "its pods end before what held the places"
    assert status.attempt_counters
    assert (status.attempt_counters.failed, status.attempt_counters.disrupted) == (0, 0)
    ended = "ended to go on with all nodes; the checkpoint of step 7 is saved"
    assert events(world) == [
        ("Starting", "attempt 1 is starting on 3 nodes"),
        ("NoCapacity", "attempt 1: 0/2 nodes; the next attempt asks for the first resources on 2 instead of 3 nodes"),
        ("Starting", "attempt 2 is starting on 2 of 3 nodes, and asks for 1 more meanwhile"),
        ("Regrown", "there is room for all nodes: its pods save and end, and it goes on there"),
        ("Regrown", f"attempt 2: {ended}; the next one starts in 0 s"),
        ("Starting", "attempt 3 is starting on 3 nodes"),
        ("Completed", "adapter s3://b/adapter; held-out loss 3 → 2"),
    ]


async def test_what_asked_for_room_in_vain_is_taken_away(start: Start, world: World) -> None:
    status = await (await start(shrunk(world, COMPLETED))).result()

    assert [each.reason for each in status.attempts] == [Reason.NO_CAPACITY, Reason.COMPLETED]
    assert [each.attempt for each in world.cleaned] == [1, 0]
    assert events(world)[-2:] == [
        ("Finished", "attempt 2 has ended; the nodes that it lacked (1) are asked for no longer"),
        ("Completed", "adapter s3://b/adapter; held-out loss 3 → 2"),
    ]


async def test_a_clean_up_that_fails_is_tried_again_before_anything_follows(start: Start, world: World) -> None:
    world.room, world.lasting = True, {2}
    world.cleanings = [API_SERVER_AWAY, None] * 3

    status = await (await start(shrunk(world, DISRUPTED, COMPLETED))).result()

    assert [each.attempt for each in world.cleaned] == [1, 1, 2, 2, 0, 0]
    assert world.cleaned_before_attempt == {1: 0, 2: 2, 3: 6}
    assert [each.reason for each in status.attempts] == [Reason.NO_CAPACITY, Reason.REGROWN, Reason.COMPLETED]


async def test_while_the_api_server_is_away_no_slot_of_the_worker_is_held(start: Start, world: World) -> None:
    """A wait within a workflow's task would hold one, and a few such jobs all of them."""
    world.publications = [API_SERVER_AWAY, API_SERVER_AWAY, None]

    handle = await start(OWN)
    status = await handle.result()

    assert succeeded(status) is ConditionStatus.TRUE
    assert world.phases == ["Starting", "Succeeded"]
    history = await handle.fetch_history()
    timers = [event for event in history.events if event.event_type == EventType.EVENT_TYPE_TIMER_STARTED]
    assert len(timers) == 1, "the first pause is short, the second is not"


async def test_each_attempt_of_a_job_that_kueue_queues_waits_in_that_queue_anew(start: Start, world: World) -> None:
    taken_away = DISRUPTED.model_copy(update={"pod_remains": True})
    world.endings = [taken_away, COMPLETED]

    status = await (await start(BUILT_IN, kueue_queue="research")).result()

    assert [(each.attempt, each.kueue_queue) for each in world.created] == [(1, "research"), (2, "research")]
    assert [each.attempt for each in world.cleaned] == [1], "the Job that Kueue has suspended must never go on"
    assert status.phase == "Succeeded"


async def test_a_queue_of_kueue_that_is_set_or_taken_away_counts_for_the_next_attempt(
    start: Start, world: World
) -> None:
    world.monitor_for_ever, world.endings = True, [DISRUPTED, DISRUPTED, COMPLETED]
    handle = await start(OWN)
    told = [Wishes(generation=1, kueue_queue=queue) for queue in ("research", "")]
    seen = []
    for number, wishes in enumerate(told, start=1):
        while len(world.created) < number:
            await handle.query("status", result_type=TrainingJobStatus)
        await handle.signal(SIGNAL_WISHES, wishes)
        seen.append((await handle.query("status", result_type=TrainingJobStatus)).kueue_queue)
        world._ended.add(number)
    world.monitor_for_ever = False
    await handle.result()

    assert seen == ["research", None]
    assert [(each.attempt, each.kueue_queue) for each in world.created] == [(1, ""), (2, "research"), (3, "")]
