"""Workers of two versions on a real server: who carries on what, and when the older ones are no longer needed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from temporalio import activity
from temporalio.api.enums.v1 import WorkerDeploymentVersionStatus as Status
from temporalio.api.workflowservice.v1 import (
    DescribeWorkerDeploymentRequest,
    SetWorkerDeploymentCurrentVersionRequest,
)
from temporalio.client import Client
from temporalio.runtime import Runtime
from temporalio.service import RPCError
from temporalio.worker import Worker

from perdure_api import names
from perdure_api.inference import BatchEmbedInput, Embedded, EmbedTexts
from perdure_api.spec import RetrySpec
from perdure_api.workflow import JobRef, PurgeInput
from perdure_workers.messages import ActivityName
from perdure_workers.workflows.batch_embed import BatchEmbedWorkflow
from perdure_workers.workflows.purge import PurgeWorkflow
from tests.workers.workflows.conftest import (
    BUILT_IN,
    COMPLETED,
    FAILED,
    OWN,
    STORE_AWAY,
    Handle,
    World,
    begin,
)
from tests.workers.workflows.versioned import server, until, workers

pytestmark = [
    pytest.mark.temporal,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(90),
]

FAILING = BUILT_IN.model_copy(update={"retry": RetrySpec(max_attempts=100, initial_interval_seconds=0)})


@pytest_asyncio.fixture(loop_scope="module")
async def client(runtime: Runtime) -> AsyncIterator[Client]:
    async with server(runtime) as client:
        yield client


async def make_current(client: Client, build: str) -> None:
    """As soon as Temporal has heard of its workers."""

    async def made() -> bool:
        request = SetWorkerDeploymentCurrentVersionRequest(
            namespace=client.namespace, deployment_name=names.WORKER_DEPLOYMENT, build_id=build
        )
        try:
            await client.workflow_service.set_worker_deployment_current_version(request)
        except RPCError:
            return False
        return True

    await until(made)


async def status_of(client: Client, build: str) -> int:
    request = DescribeWorkerDeploymentRequest(namespace=client.namespace, deployment_name=names.WORKER_DEPLOYMENT)
    answer = await client.workflow_service.describe_worker_deployment(request)
    versions = answer.worker_deployment_info.version_summaries
    return next(version.status for version in versions if version.deployment_version.build_id == build)


async def build_of(handle: Handle) -> str:
    """The version that the newest run of a workflow belongs to."""
    description = await handle.describe()
    return description.raw_description.workflow_execution_info.versioning_info.deployment_version.build_id


async def test_a_job_stays_with_the_version_that_it_began_on_and_new_ones_go_to_the_next(client: Client) -> None:
    old, new = World(monitor_for_ever=True), World()
    async with workers(client, "old", old):
        await make_current(client, "old")
        began = await begin(client, OWN)
        await until(lambda: _holds(old.monitored == [1]))
        async with workers(client, "new", new):
            await make_current(client, "new")
            later = await begin(client, OWN)
            assert (await later.result()).phase == "Succeeded"
            assert await status_of(client, "old") == Status.WORKER_DEPLOYMENT_VERSION_STATUS_DRAINING
            assert (new.monitored, len(new.created)) == ([1], 1)

            old.monitor_for_ever = False
            assert (await began.result()).phase == "Succeeded"

            assert (old.phases[-1], len(old.created)) == ("Succeeded", 1)
            assert (new.monitored, len(new.created)) == ([1], 1), "nothing of the older job was done here"
            assert (await build_of(began), await build_of(later)) == ("old", "new")
            await until(lambda: _is_drained(client, "old"))


async def test_what_is_started_while_no_version_is_current_waits_for_one(client: Client) -> None:
    world = World()
    async with workers(client, "first", world):
        handle = await begin(client, OWN)
        assert (await handle.describe()).history_length == 2, "begun, and nobody has looked at it"
        await make_current(client, "first")

        assert (await handle.result()).phase == "Succeeded"


async def test_jobs_of_workers_without_versions_go_over_to_the_first_that_has_one(client: Client) -> None:
    before, after = World(monitor_for_ever=True), World()
    async with workers(client, "", before):
        handle = await begin(client, OWN)
        await until(lambda: _holds(before.monitored == [1]))
    async with workers(client, "first", after):
        await make_current(client, "first")
        status = await handle.result()

    assert (status.phase, len(status.attempts)) == ("Succeeded", 1)
    assert (len(before.created), len(after.created)) == (1, 0)
    assert after.monitored == [1], "the same attempt, followed further"


async def test_a_purge_goes_over_to_the_next_version_and_holds_up_no_drain(client: Client) -> None:
    old, new = World(purges=[STORE_AWAY]), World()
    async with workers(client, "old", old):
        await make_current(client, "old")
        job = JobRef(namespace="ns", name="job", uid="u")
        purge = await client.start_workflow(
            PurgeWorkflow.run,
            PurgeInput(job=job, output_uri="s3://b/out"),
            id=job.purge_workflow_id,
            task_queue=names.TASK_QUEUE_CPU,
        )
        await until(lambda: _holds(bool(old.purged)))
        async with workers(client, "new", new):
            await make_current(client, "new")
            await until(lambda: _is_drained(client, "old"))
            await purge.result()

    assert len(new.purged) == 1


async def test_a_long_history_that_is_cut_goes_on_with_the_current_version(client: Client) -> None:
    """A run that begins anew has no past to repeat, and so keeps no older worker."""
    old, new = World(monitor_for_ever=True, endings=[FAILED]), World()
    async with workers(client, "old", old):
        await make_current(client, "old")
        handle = await begin(client, FAILING)
        await until(lambda: _holds(old.monitored == [1]))
        async with workers(client, "new", new):
            await make_current(client, "new")
            old.monitor_for_ever = False
            status = await handle.result()

    assert status.phase == "Succeeded"
    assert new.monitored == [len(old.monitored) + 1], "counted on"
    assert (old.checked, new.checked) == (1, 0)


async def test_a_long_history_is_cut_without_versions_too(client: Client) -> None:
    world = World(endings=[FAILED] * 9 + [COMPLETED])
    async with workers(client, "", world):
        handle = await begin(client, FAILING)
        status = await handle.result()

    assert (status.phase, world.monitored) == ("Succeeded", list(range(1, 11)))
    assert (await client.get_workflow_handle(handle.id).describe()).run_id != handle.first_execution_run_id


async def _holds(value: bool) -> bool:  # noqa: FBT001 - a condition
    return value


async def _is_drained(client: Client, build: str) -> bool:
    return await status_of(client, build) == Status.WORKER_DEPLOYMENT_VERSION_STATUS_DRAINED


async def test_a_workflow_of_a_version_asks_gpu_workers_which_have_none(client: Client) -> None:
    asked: list[EmbedTexts] = []

    @activity.defn(name=ActivityName.EMBED_TEXTS)
    async def embed(request: EmbedTexts) -> Embedded:
        asked.append(request)
        return Embedded(count=1, dimension=1, tokens=1, seconds=0, model_fingerprint="", vectors="AACAPw==")

    gpu = Worker(client, task_queue=names.TASK_QUEUE_GPU, activities=[embed])
    async with workers(client, "one", World()), gpu:
        await make_current(client, "one")
        result = await client.execute_workflow(
            BatchEmbedWorkflow.run,
            BatchEmbedInput(model="s3://b/model", texts=["a"]),
            id="embed",
            task_queue=names.TASK_QUEUE_CPU,
        )

    assert result.vectors == [[1.0]]
    assert [request.texts for request in asked] == [["a"]]
