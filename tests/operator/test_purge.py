"""The workflow that deletes checkpoints, as the operator sees it in a real Temporal."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from temporalio import activity
from temporalio.worker import Worker

from perdure_api import names
from perdure_api.conditions import Reason
from perdure_api.workflow import JobRef, PurgeInput
from perdure_control.temporal import Place, connect
from perdure_data.stores import Stores
from perdure_operator.workflows import Purge, Workflows, connection
from perdure_workers.activities.purging import PurgingActivities
from perdure_workers.messages import ActivityName, CleanUp
from perdure_workers.process import sandbox
from perdure_workers.workflows.purge import PurgeWorkflow
from tests.workers.workflows.conftest import STORE_AWAY, World

if TYPE_CHECKING:
    from tests.operator.conftest import Temporal
    from tests.temporal_server import TemporalServer

pytestmark = [pytest.mark.temporal, pytest.mark.asyncio(loop_scope="module")]

Until = Callable[..., Any]


@pytest_asyncio.fixture(loop_scope="module")
async def workflows(temporal_server: TemporalServer) -> AsyncIterator[Workflows]:
    yield Workflows(await connection(Place(temporal_server.address, "default")).open())


@pytest.fixture
def request_() -> PurgeInput:
    job = JobRef(namespace="ml", name="tj", uid=str(uuid.uuid4()))
    return PurgeInput(job=job, output_uri="s3://b/out")


async def trouble(workflows: Workflows, request: PurgeInput) -> Purge:
    """The first that Temporal knows of."""
    async with asyncio.timeout(60):
        while not (told := await workflows.purge(request)).problem:  # noqa: ASYNC110 - Temporal is asked
            await asyncio.sleep(0.1)
    return told


async def test_it_is_begun_when_asked_about_and_done_once(
    workflows: Workflows, temporal: Temporal, request_: PurgeInput, until: Until
) -> None:
    world = World()
    id_ = request_.job.purge_workflow_id

    first = await workflows.purge(request_)
    while_it_runs = await workflows.purge(request_)
    with temporal.worker(world):
        until(lambda: temporal.status(id_) == "COMPLETED", "it is done")
        await workflows.start_purge(request_)
        last = await workflows.purge(request_)

    assert (first, while_it_runs, last) == (Purge(), Purge(), Purge(done=True))
    assert [each.output_uri for each in world.purged] == ["s3://b/out"]


async def test_what_keeps_it_from_going_on_is_told_until_it_does(
    workflows: Workflows, temporal: Temporal, request_: PurgeInput, until: Until
) -> None:
    world = World(purges=[STORE_AWAY])
    with temporal.worker(world):
        await workflows.start_purge(request_)
        until(lambda: world.purged, "it was tried")
        told = await trouble(workflows, request_)
        world.purges = [None]
        until(lambda: temporal.status(request_.job.purge_workflow_id) == "COMPLETED", "it is done")

    assert told == Purge(problem="the store cannot be reached", reason=Reason.STORE_UNAVAILABLE)


async def test_one_that_was_ended_from_outside_begins_again(
    workflows: Workflows, temporal: Temporal, request_: PurgeInput, until: Until
) -> None:
    id_ = request_.job.purge_workflow_id
    await workflows.start_purge(request_)
    temporal.terminate(id_)
    assert temporal.status(id_) == "TERMINATED"

    assert not (await workflows.purge(request_)).done

    with temporal.worker():
        until(lambda: temporal.status(id_) == "COMPLETED", "it is done")


async def test_whoever_wants_to_keep_the_checkpoints_after_all_ends_it(
    workflows: Workflows, temporal: Temporal, request_: PurgeInput, until: Until
) -> None:
    world = World(purges=[STORE_AWAY])
    assert not await workflows.cancel_purge(request_.job)
    with temporal.worker(world):
        await workflows.start_purge(request_)
        until(lambda: world.purged, "it was tried")

        assert await workflows.cancel_purge(request_.job)

        until(lambda: temporal.status(request_.job.purge_workflow_id) == "CANCELED", "it has ended")


async def test_what_the_activity_says_of_a_store_that_is_away_comes_through(
    temporal_server: TemporalServer,
    workflows: Workflows,
    request_: PurgeInput,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Temporal keeps only some kilobytes of a failure, of which stack traces can be most."""
    for name, value in {"ENDPOINT_URL": "http://127.0.0.1:1", "ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)

    @activity.defn(name=ActivityName.CLEANUP_RESOURCES)
    async def clean_up(_: CleanUp) -> None:
        return

    worker = Worker(
        await connect(temporal_server.address, "default", identity="tests"),
        task_queue=names.TASK_QUEUE_CPU,
        workflows=[PurgeWorkflow],
        workflow_runner=sandbox(),
        activities=[clean_up, PurgingActivities(Stores()).delete_checkpoints],
    )
    async with worker:
        told = await trouble(workflows, request_)
        await workflows.cancel_purge(request_.job)

    assert told.reason is Reason.STORE_UNAVAILABLE
    assert told.problem.startswith(f"s3://b/out/runs/{request_.job.uid}: the store cannot be reached")
