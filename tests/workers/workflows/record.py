"""Records histories of the workflows as they are now: `python -m tests.workers.workflows.record VERSION`.

Do it once for every release; test_replay.py then holds every later version of the code to them.
"""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.worker import Worker

from perdure_api import names
from perdure_api.conditions import Phase, Reason
from perdure_api.dead_letter import SIGNAL_LEAVE, SIGNAL_RETRIED, Retried
from perdure_api.fine_tune import FineTuneInput
from perdure_api.spec import AlternativeSpec, DeadlinesSpec, ResourcesSpec, RetrySpec, TrainingJobSpec
from perdure_api.status import AttemptCounters, AttemptStatus, TrainingJobStatus
from perdure_api.workflow import (
    SIGNAL_CHECKPOINT,
    SIGNAL_WISHES,
    CheckpointRequest,
    JobRef,
    PurgeInput,
    TrainingInput,
    Wishes,
)
from perdure_workers.attempts.outcome import Outcome
from perdure_workers.messages import FoundAttempt
from perdure_workers.process import WORKFLOWS, sandbox
from tests.temporal_server import dev_server
from tests.workers.workflows.conftest import BUILT_IN, COMPLETED, DISRUPTED, FAILED, OWN, STORE_AWAY, Handle, World
from tests.workers.workflows.courses import LONG_EVENTS, Course, courses

HISTORIES = Path(__file__).parents[1] / "histories"
RECORDER = "recorder"
"""Histories do not tell which machine they come from."""
BEGUN = "2026-01-01T00:00:00Z"
QUICK = RetrySpec(max_attempts=2, initial_interval_seconds=0)


@dataclass(frozen=True)
class Scenario:
    """One course of things."""

    spec: TrainingJobSpec
    world: World
    steer: Callable[[Handle, World], Awaitable[None]] | None = None
    """What people do to it meanwhile."""
    is_cancelled: bool = False
    deleted: bool = False
    """Not the job's own workflow is recorded, but the one that deletes its checkpoints."""
    fine_tuned: bool = False
    """Not the job's own workflow is recorded, but one that makes the job."""
    dead_letter: bool = False
    """Not the job's own workflow is recorded, but one that holds work that failed."""
    recalled: TrainingJobStatus | None = None
    """What the object told before Temporal lost its history."""


def scenarios() -> dict[str, Scenario]:
    """Every kind of way that a job can go."""
    quick = {"retry": QUICK}
    no_pod = Outcome(reason=Reason.NO_CAPACITY, message="0/2 nodes", pod_remains=True)
    one_place = no_pod.model_copy(update={"placed_nodes": 1})
    return {
        "own-command": Scenario(OWN, World()),
        "built-in": Scenario(BUILT_IN, World()),
        "retried": Scenario(BUILT_IN.model_copy(update=quick), World(endings=[FAILED, DISRUPTED, COMPLETED])),
        "max-attempts": Scenario(BUILT_IN.model_copy(update=quick), World(endings=[FAILED])),
        "store-away": Scenario(BUILT_IN, World(checks=[Reason.STORE_UNAVAILABLE, *World().checks])),
        "suspended-without-store": Scenario(BUILT_IN, World(checks=[Reason.STORE_UNAVAILABLE]), _suspend_without_store),
        "result-away": Scenario(BUILT_IN, World(results=[STORE_AWAY, *World().results])),
        "dataset-broken": Scenario(BUILT_IN, World(checks=[Reason.DATASET_BROKEN])),
        "job-refused": Scenario(OWN, World(creations=[Reason.JOB_REFUSED, None])),
        "no-capacity": Scenario(OWN, World(endings=[no_pod])),
        "fell-back": Scenario(
            OWN.model_copy(update={"resources": ResourcesSpec(alternatives=[AlternativeSpec(cpu="1")])}),
            World(endings=[no_pod, COMPLETED]),
        ),
        "regrown": Scenario(
            BUILT_IN.model_copy(update={"resources": ResourcesSpec(nodes=2, min_nodes=1, regrow=True)}),
            World(endings=[one_place, DISRUPTED, COMPLETED], lasting={2}, room=True),
        ),
        "suspended-again": Scenario(BUILT_IN.model_copy(update={"suspend": True}), World(), _suspend_again),
        "suspended": Scenario(BUILT_IN, World(monitor_for_ever=True, endings=[DISRUPTED, COMPLETED]), _suspend),
        "acknowledged": Scenario(BUILT_IN, World(monitor_for_ever=True), _acknowledge),
        "cancelled": Scenario(OWN, World(monitor_for_ever=True), _cancel, is_cancelled=True),
        "too-long": Scenario(
            OWN.model_copy(update={"deadlines": DeadlinesSpec(active_seconds=1)}), World(monitor_for_ever=True)
        ),
        "recalled": Scenario(
            BUILT_IN,
            World(found=[FoundAttempt(number=1), FoundAttempt(number=2)], endings=[DISRUPTED, COMPLETED]),
            recalled=TrainingJobStatus(
                start_time=BEGUN,
                attempts=[AttemptStatus(number=2, job="recalled-2", start_time=BEGUN)],
                attempt_counters=AttemptCounters(started=2, disrupted=1),
            ),
        ),
        "fine-tuned": Scenario(BUILT_IN, World(), fine_tuned=True),
        "fine-tune-cancelled": Scenario(
            BUILT_IN, World(monitor_for_ever=True), _cancel_fine_tune, is_cancelled=True, fine_tuned=True
        ),
        "purged": Scenario(BUILT_IN, World(purges=[STORE_AWAY, None]), deleted=True),
        "dead-letter": Scenario(OWN, World(), _retry_and_drop, dead_letter=True),
    }


async def _cancel(handle: Handle, world: World) -> None:
    await world.created_one.wait()
    await handle.cancel()


async def _cancel_fine_tune(handle: Handle, world: World) -> None:
    await _until(lambda: len(world.followed) == 1)
    await handle.cancel()


async def _retry_and_drop(handle: Handle, _: World) -> None:
    await handle.signal(SIGNAL_RETRIED, Retried(run_id="r", at=datetime(2026, 1, 1, tzinfo=UTC), by="somebody"))
    await handle.signal(SIGNAL_RETRIED, None)
    await handle.signal(SIGNAL_LEAVE, "dropped")


async def _suspend(handle: Handle, world: World) -> None:
    """Suspends it while it runs, and asks for a checkpoint; then lets it go on."""
    await _until(lambda: world.monitored == [1])
    await handle.signal(SIGNAL_CHECKPOINT, CheckpointRequest(reason="before it is suspended"))
    await _until(lambda: len(world.commanded) == 1)
    await handle.signal(SIGNAL_WISHES, Wishes(generation=2, suspend=True))
    await _until(lambda: world.phases[-1:] == [Phase.SUSPENDED])
    world.monitor_for_ever = False
    await handle.signal(SIGNAL_WISHES, Wishes(generation=3))


async def _acknowledge(handle: Handle, world: World) -> None:
    """Tells it of a newer spec, of which nothing comes."""
    await _until(lambda: world.monitored == [1])
    before = len(world.published)
    await handle.signal(SIGNAL_WISHES, Wishes(generation=2))
    await _until(lambda: len(world.published) > before)
    world.monitor_for_ever = False


async def _suspend_again(handle: Handle, world: World) -> None:
    """Resumed and suspended in one breath, then resumed."""
    await _until(lambda: len(world.cleaned) == 1)
    await handle.signal(SIGNAL_WISHES, Wishes(generation=3, suspend=True))
    await _until(lambda: len(world.cleaned) == 2)
    await handle.signal(SIGNAL_WISHES, Wishes(generation=4))


async def _suspend_without_store(handle: Handle, world: World) -> None:
    """Suspends it while it waits for its store, which is back when it is to go on."""
    await _until(lambda: world.checked == 1)
    await handle.signal(SIGNAL_WISHES, Wishes(generation=2, suspend=True))
    await _until(lambda: world.phases[-1:] == [Phase.SUSPENDED])
    world.checks = World().checks
    await handle.signal(SIGNAL_WISHES, Wishes(generation=3))


async def _until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - the world is told by several activities
        await asyncio.sleep(0.01)


async def record(version: str) -> None:
    """Writes one JSON file for each scenario and course. What is there already stays: it is of the code of its time."""
    folder = HISTORIES / version
    folder.mkdir(parents=True, exist_ok=True)
    for name in [*scenarios(), *courses()]:
        file = folder / f"{name}.json"
        if not file.exists():
            file.write_text(await _recorded(name))
            sys.stdout.write(f"{version}/{name}.json\n")


async def _recorded(name: str) -> str:
    """The history of the scenario or course of this name, on a server of its own."""
    if scenario := scenarios().get(name):
        async with dev_server(identity=RECORDER) as client:
            return await _history(client, name, scenario)
    course = courses()[name]
    settings = [f"limit.historyCount.suggestContinueAsNew={LONG_EVENTS}"] if course.grows_long else []
    async with dev_server(*settings, identity=RECORDER) as client:
        return await _history_of_course(client, name, course)


async def _history(client: Client, name: str, scenario: Scenario) -> str:
    activities = scenario.world.activities()
    cpu = Worker(
        client,
        task_queue=names.TASK_QUEUE_CPU,
        workflows=WORKFLOWS,
        activities=activities,
        workflow_runner=sandbox(),
    )
    watch = Worker(client, task_queue=names.TASK_QUEUE_WATCH, activities=activities)
    async with cpu, watch:
        job = JobRef(namespace="histories", name=name, uid=str(uuid.uuid4()), generation=1)
        type_, wish = _wish(job, scenario)
        handle = await client.start_workflow(type_, wish, id=job.workflow_id, task_queue=names.TASK_QUEUE_CPU)
        if scenario.steer:
            await scenario.steer(handle, scenario.world)
        await _ended(handle, fails=scenario.is_cancelled)
        return _without_stack_traces((await handle.fetch_history()).to_json())


async def _history_of_course(client: Client, name: str, course: Course) -> str:
    async with course.asked.working(client):
        handle = await client.start_workflow(
            course.workflow, course.wish, id=f"histories/{name}", task_queue=names.TASK_QUEUE_CPU
        )
        await _ended(handle, fails=course.fails)
        last = (await client.get_workflow_handle(handle.id).describe()).run_id
        if course.grows_long and last == handle.first_execution_run_id:
            raise RuntimeError(f"{name} ended in one run; expected several: lower LONG_EVENTS, or give it more to do")
        run_id = last if course.last_run else handle.first_execution_run_id
        history = await client.get_workflow_handle(handle.id, run_id=run_id).fetch_history()
        return _without_stack_traces(history.to_json())


async def _ended(handle: WorkflowHandle[Any, Any], *, fails: bool) -> None:
    """Waits for its end, which must be the expected one."""
    try:
        await handle.result()
    except WorkflowFailureError:
        if not fails:
            raise


def _wish(job: JobRef, scenario: Scenario) -> tuple[str, TrainingInput | PurgeInput | FineTuneInput | dict[str, str]]:
    """Type and argument of the workflow that is recorded."""
    spec = scenario.spec
    if scenario.deleted and spec.output:
        return names.PURGE_WORKFLOW_TYPE, PurgeInput(job=job, output_uri=spec.output.uri)
    if scenario.fine_tuned:
        return names.FINE_TUNE_WORKFLOW_TYPE, FineTuneInput(namespace=job.namespace, name=job.name, spec=spec)
    if scenario.dead_letter:
        return names.DEAD_LETTER_WORKFLOW_TYPE, {"anything": "the input of other work"}
    return names.WORKFLOW_TYPE, TrainingInput(job=job, spec=spec, recalled=scenario.recalled)


def _without_stack_traces(history: str) -> str:
    """A replay does not read them, and they name the folders of the machine that recorded them."""

    def strip(fields: dict[str, Any]) -> dict[str, Any]:
        fields.pop("stackTrace", None)
        return fields

    return json.dumps(json.loads(history, object_hook=strip), indent=2) + "\n"


if __name__ == "__main__":
    asyncio.run(record(sys.argv[1]))
