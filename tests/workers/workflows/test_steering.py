"""What people ask of a job that runs: suspend, resume, save now."""

from __future__ import annotations

from collections import Counter

import pytest
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment

from perdure_api.conditions import ConditionStatus, ConditionType, Phase, Reason
from perdure_api.pod import CheckpointRef, TerminationMessage
from perdure_api.spec import DeadlinesSpec
from perdure_api.status import TrainingJobStatus
from perdure_api.workflow import QUERY_STATUS, SIGNAL_CHECKPOINT, SIGNAL_WISHES, CheckpointRequest, Wishes
from perdure_workers.attempts.outcome import Outcome
from perdure_workers.messages import InputsChecked
from tests.workers.workflows.conftest import (
    API_SERVER_AWAY,
    BUILT_IN,
    COMPLETED,
    DISRUPTED,
    FAILED,
    OWN,
    Handle,
    Start,
    World,
    until,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

SAVED = Outcome(
    reason=Reason.DISRUPTED,
    message="told to stop",
    exit_code=143,
    words=TerminationMessage(step=7, checkpoint=CheckpointRef(uri="s3://b/7", step=7)),
)


async def suspend(handle: Handle, generation: int, *, suspended: bool = True) -> None:
    await handle.signal(SIGNAL_WISHES, Wishes(generation=generation, suspend=suspended))


def reasons(world: World) -> list[str]:
    return [str(note.reason) for each in world.published for note in each.notes]


async def test_that_a_newer_spec_is_known_is_told_at_once_where_nothing_comes_of_it(start: Start, world: World) -> None:
    world.monitor_for_ever = True
    handle = await start(BUILT_IN)
    await until(lambda: world.monitored == [1])
    before = len(world.published)

    await suspend(handle, 2, suspended=False)
    await until(lambda: len(world.published) > before)
    world.monitor_for_ever = False
    await handle.result()

    told = world.published[before]
    assert (told.status.observed_generation, told.notes, told.acknowledgement_only) == (2, [], True)
    assert [each.status.observed_generation for each in world.published[:before]] == [1] * before


async def test_a_job_that_is_resumed_and_suspended_in_one_breath_stays_so_and_says_what_it_knows(
    start: Start, world: World
) -> None:
    handle = await start(BUILT_IN.model_copy(update={"suspend": True}))
    await until(lambda: world.phases[-1:] == [Phase.SUSPENDED])

    await suspend(handle, 3)
    await until(lambda: world.published[-1].status.observed_generation == 3)

    assert world.phases[-1] == Phase.SUSPENDED
    assert world.created == []
    # A worker that died between the two wishes may have begun the attempt, and not have lived to record it.
    await until(lambda: [each.attempt for each in world.cleaned] == [1, 1])
    await suspend(handle, 4, suspended=False)
    assert (await handle.result()).phase == "Succeeded"


async def test_what_a_newer_spec_brings_about_is_told_with_that_it_is_known_in_one_write(
    start: Start, world: World
) -> None:
    world.monitor_for_ever = True
    world.endings = [SAVED, COMPLETED]
    handle = await start(BUILT_IN)
    await until(lambda: world.monitored == [1])
    before = len(world.published)

    await suspend(handle, 2)
    await until(lambda: world.phases[-1:] == [Phase.SUSPENDED])

    assert [each.status.reason for each in world.published[before:]] == ["Suspended", "Suspended"]
    assert [str(each.status.phase) for each in world.published[before:]] == ["Starting", "Suspended"]
    world.monitor_for_ever = False
    await suspend(handle, 3, suspended=False)
    await handle.result()


async def test_a_running_job_is_suspended_and_goes_on_without_using_up_an_attempt(start: Start, world: World) -> None:
    world.monitor_for_ever = True
    world.endings = [SAVED, COMPLETED]
    handle = await start(BUILT_IN)
    await until(lambda: world.monitored == [1])

    await suspend(handle, 2)
    await until(lambda: world.phases[-1:] == [Phase.SUSPENDED])
    status = world.published[-1].status
    world.monitor_for_ever = False
    await suspend(handle, 3, suspended=False)
    end = await handle.result()

    assert status.message == "suspended; the checkpoint of step 7 is saved; set spec.suspend to false and it goes on"
    assert status.observed_generation == 2
    suspended, reconciling = status.condition(ConditionType.SUSPENDED), status.condition(ConditionType.RECONCILING)
    assert suspended
    assert (suspended.status, suspended.observed_generation) == (ConditionStatus.TRUE, 2)
    assert reconciling
    assert reconciling.status is ConditionStatus.FALSE
    assert [each.attempt for each in world.cleaned] == [1, 2], "the next one too, should anybody have begun it"
    assert (end.phase, [attempt.reason for attempt in end.attempts]) == ("Succeeded", ["Suspended", "Completed"])
    assert end.attempt_counters
    assert (end.attempt_counters.failed, end.attempt_counters.disrupted, end.attempt_counters.suspended) == (0, 0, 1)
    assert end.observed_generation == 3
    resumed = end.condition(ConditionType.SUSPENDED)
    assert resumed
    assert resumed.status is ConditionStatus.FALSE
    assert reasons(world) == ["Suspended", "Resumed", "Completed"]


async def test_a_job_is_suspended_when_what_ran_is_gone_however_often_that_takes_a_second_try(
    start: Start, world: World
) -> None:
    world.monitor_for_ever = True
    world.endings = [SAVED, COMPLETED]
    world.cleanings = [API_SERVER_AWAY, None]
    handle = await start(BUILT_IN)
    await until(lambda: world.monitored == [1])

    await suspend(handle, 2)
    await until(lambda: len(world.cleaned) == 1)
    phase_before = world.phases[-1]
    await until(lambda: world.phases[-1:] == [Phase.SUSPENDED])
    cleaned = [each.attempt for each in world.cleaned]
    world.monitor_for_ever = False
    await suspend(handle, 3, suspended=False)
    end = await handle.result()

    assert phase_before != Phase.SUSPENDED
    assert cleaned[:2] == [1, 1]
    assert [attempt.reason for attempt in end.attempts] == ["Suspended", "Completed"]


async def test_ten_suspensions_of_one_job_cost_no_attempt(start: Start, world: World) -> None:
    world.monitor_for_ever = True
    world.endings = [*[SAVED] * 10, COMPLETED]
    handle = await start(BUILT_IN)

    for turn in range(10):
        await until(lambda: len(world.monitored) == turn + 1)  # noqa: B023 - used at once
        await suspend(handle, 2 * turn + 2)
        await until(lambda: world.phases[-1:] == [Phase.SUSPENDED])
        world.monitor_for_ever = turn < 9
        await suspend(handle, 2 * turn + 3, suspended=False)
    end = await handle.result()

    assert end.attempt_counters
    assert (end.attempt_counters.started, end.attempt_counters.failed, end.attempt_counters.suspended) == (11, 0, 10)
    told = {(note.reason, note.message, note.occasion) for each in world.published for note in each.notes}
    assert Counter(str(reason) for reason, *_ in told) == {"Suspended": 10, "Resumed": 10, "Completed": 1}


async def test_a_job_that_is_made_suspended_begins_when_it_is_resumed(start: Start, world: World) -> None:
    handle = await start(BUILT_IN.model_copy(update={"suspend": True}))
    await until(lambda: world.phases == [Phase.SUSPENDED])
    before = (world.checked, list(world.created))

    await suspend(handle, 2, suspended=False)
    end = await handle.result()

    assert before == (0, [])
    assert (end.phase, end.attempt_counters and end.attempt_counters.started) == ("Succeeded", 1)


async def test_a_job_that_waits_for_its_next_attempt_can_be_suspended(start: Start, world: World) -> None:
    world.endings = [FAILED, COMPLETED]
    handle = await start(BUILT_IN)
    await until(lambda: Phase.RETRYING in world.phases)

    await suspend(handle, 2)
    await until(lambda: world.phases[-1:] == [Phase.SUSPENDED])
    await suspend(handle, 3, suspended=False)
    end = await handle.result()

    assert [attempt.reason for attempt in end.attempts] == ["Failed", "Completed"]


async def test_a_job_that_waits_for_its_store_can_be_suspended(start: Start, world: World) -> None:
    world.checks = [Reason.STORE_UNAVAILABLE]
    handle = await start(BUILT_IN)
    await until(lambda: str(Reason.STORE_UNAVAILABLE) in reasons(world))

    await suspend(handle, 2)
    await until(lambda: world.phases[-1:] == [Phase.SUSPENDED])
    checked, world.checks = world.checked, [InputsChecked(message="read")]
    await suspend(handle, 3, suspended=False)
    end = await handle.result()

    assert world.checked == checked + 1
    assert (end.phase, [attempt.reason for attempt in end.attempts]) == ("Succeeded", ["Completed"])


async def test_a_job_whose_pods_are_refused_can_be_suspended(start: Start, world: World) -> None:
    world.creations = [Reason.JOB_REFUSED]
    handle = await start(OWN)
    await until(lambda: str(Reason.JOB_REFUSED) in reasons(world))

    await suspend(handle, 2)
    await until(lambda: world.phases[-1:] == [Phase.SUSPENDED])
    world.creations = [None]
    await suspend(handle, 3, suspended=False)
    end = await handle.result()

    assert (end.phase, [attempt.reason for attempt in end.attempts]) == ("Succeeded", ["Suspended", "Completed"])


async def test_an_attempt_that_finishes_as_it_is_suspended_has_finished(start: Start, world: World) -> None:
    world.monitor_for_ever = True
    world.endings = [COMPLETED]
    handle = await start(BUILT_IN)
    await until(lambda: world.monitored == [1])

    await suspend(handle, 2)
    end = await handle.result()

    assert (end.phase, [attempt.reason for attempt in end.attempts]) == ("Succeeded", ["Completed"])


async def test_a_trainer_of_ones_own_that_ends_with_0_when_told_to_stop_has_not_finished(
    start: Start, world: World
) -> None:
    world.monitor_for_ever = True
    world.endings = [COMPLETED]
    handle = await start(OWN)
    await until(lambda: world.monitored == [1])

    await suspend(handle, 2)
    await until(lambda: world.phases[-1:] == [Phase.SUSPENDED])
    world.monitor_for_ever = False
    await suspend(handle, 3, suspended=False)
    end = await handle.result()

    assert [attempt.reason for attempt in end.attempts] == ["Suspended", "Completed"]


async def test_an_older_wish_that_comes_late_changes_nothing(start: Start, world: World) -> None:
    world.monitor_for_ever = True
    handle = await start(OWN)
    await until(lambda: world.monitored == [1])

    await suspend(handle, 3, suspended=False)
    await suspend(handle, 2)

    status: TrainingJobStatus = await handle.query(QUERY_STATUS, result_type=TrainingJobStatus)
    assert status.observed_generation == 3
    assert not world.cleaned
    world.monitor_for_ever = False
    await handle.result()


async def test_time_in_which_a_job_is_suspended_is_no_time_of_its_deadline(
    start: Start, world: World, environment: WorkflowEnvironment
) -> None:
    spec = OWN.model_copy(update={"suspend": True, "deadlines": DeadlinesSpec(active_seconds=5)})
    handle = await start(spec)
    await until(lambda: world.phases == [Phase.SUSPENDED])

    await environment.sleep(60)
    await suspend(handle, 2, suspended=False)
    end = await handle.result()

    assert end.phase == "Succeeded"


async def test_a_checkpoint_is_asked_of_the_attempt_that_runs_once(start: Start, world: World) -> None:
    world.monitor_for_ever = True
    handle = await start(OWN)
    await until(lambda: world.monitored == [1])

    for _ in range(2):
        await handle.signal(SIGNAL_CHECKPOINT, CheckpointRequest(id="a", reason="maintenance"))
    await handle.signal(SIGNAL_CHECKPOINT, {"reason": "power"})
    await until(lambda: len(world.commanded) == 2)

    assert [(each.attempt, each.command.command, each.command.reason) for each in world.commanded] == [
        (1, "checkpoint", "maintenance"),
        (1, "checkpoint", "power"),
    ]
    assert world.commanded[0].command.id == "a"
    assert world.commanded[1].command.id
    await until(lambda: reasons(world) == ["CheckpointAsked"] * 2)
    world.monitor_for_ever = False
    await handle.result()


async def test_a_checkpoint_that_nobody_can_save_is_told_of(start: Start, world: World) -> None:
    handle = await start(OWN.model_copy(update={"suspend": True}))
    await until(lambda: world.phases == [Phase.SUSPENDED])

    await handle.signal(SIGNAL_CHECKPOINT, CheckpointRequest(reason="power"))
    await until(lambda: len(world.published) == 2)

    assert [each.notes_only for each in world.published] == [False, True]
    note = world.published[-1].notes[0]
    assert (note.kind, note.message) == (
        "Warning",
        "a checkpoint was asked for: power; no trainer runs now, and what was saved before stays",
    )
    await suspend(handle, 2, suspended=False)
    await handle.result()


@pytest.mark.parametrize(
    "arguments", [[], [None], ["text"], [7], [{"generation": "new"}], [{"reason": 7}, "more"]], ids=str
)
async def test_a_signal_of_the_wrong_shape_does_no_harm(start: Start, world: World, arguments: list[object]) -> None:
    world.monitor_for_ever = True
    world.endings = [DISRUPTED, COMPLETED]
    handle = await start(OWN)
    await until(lambda: world.monitored == [1])

    for name in (SIGNAL_WISHES, SIGNAL_CHECKPOINT, "no-such-signal"):
        await handle.signal(name, args=arguments)
    await until(lambda: len(world.commanded) == 1)
    world.monitor_for_ever = False
    end = await handle.result()

    assert [(each.attempt, each.command.command) for each in world.commanded] == [(1, "checkpoint")]
    assert end.phase == "Succeeded"


@pytest.mark.parametrize(
    "absurd",
    [
        {"generation": 10**30, "suspend": True},
        {"generation": 10**18, "suspend": True},
        {"generation": -1, "suspend": True},
        {"generation": 2, "kueueQueue": "q" * 64},
        {"generation": 2, "kueueQueue": "no label"},
    ],
    ids=[
        "a generation beyond 64 bits",
        "one far ahead",
        "a negative one",
        "a queue's long name",
        "a queue that is no label",
    ],
)
async def test_a_wish_with_an_absurd_value_is_none_and_the_next_one_is_heard(
    start: Start, world: World, absurd: dict[str, object]
) -> None:
    world.monitor_for_ever = True
    handle = await start(OWN)
    await until(lambda: world.monitored == [1])

    await handle.signal(SIGNAL_WISHES, absurd)

    status: TrainingJobStatus = await handle.query(QUERY_STATUS, result_type=TrainingJobStatus)
    assert (status.observed_generation, status.kueue_queue, world.cleaned) == (1, None, [])
    await suspend(handle, 2)
    await until(lambda: world.phases[-1:] == [Phase.SUSPENDED])
    world.monitor_for_ever = False
    await suspend(handle, 3, suspended=False)
    assert (await handle.result()).observed_generation == 3


async def test_a_request_with_a_text_without_end_is_cut_and_the_next_one_is_heard(start: Start, world: World) -> None:
    world.monitor_for_ever = True
    handle = await start(OWN)
    await until(lambda: world.monitored == [1])

    text = "why " * 100_000
    for _ in range(2):
        await handle.signal(SIGNAL_CHECKPOINT, {"id": text, "reason": text})
    await handle.signal(SIGNAL_CHECKPOINT, {"id": text + "not", "reason": "power"})
    await until(lambda: len(world.commanded) == 2)

    commands = [each.command for each in world.commanded]
    assert [len(command.model_dump_json()) < 1000 for command in commands] == [True, True]
    assert commands[0].reason.startswith("why why")
    assert commands[0].id != commands[1].id
    world.monitor_for_ever = False
    await handle.result()


@pytest.mark.parametrize("name", [SIGNAL_WISHES, SIGNAL_CHECKPOINT, "no-such-signal"])
async def test_a_signal_to_a_finished_job_is_refused_and_changes_nothing(start: Start, world: World, name: str) -> None:
    handle = await start(OWN)
    end = await handle.result()
    told = len(world.published)

    with pytest.raises(RPCError) as refused:
        await handle.signal(name, Wishes(generation=2, suspend=True))

    assert refused.value.status is RPCStatusCode.NOT_FOUND
    assert await handle.query(QUERY_STATUS, result_type=TrainingJobStatus) == end
    assert (len(world.published), world.commanded) == (told, [])
