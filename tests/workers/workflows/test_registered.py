"""What a worker process registers: workflows of the factory run in it, with and without versions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry
from temporalio.client import Client
from temporalio.runtime import Runtime

from perdure_api.fine_tune import FineTuneResult
from perdure_api.status import ResultStatus
from perdure_control.cluster import Cluster
from perdure_control.factory import Registry, start_workflow
from perdure_control.factory.builtin import FINE_TUNE
from perdure_workers import extensions, process
from perdure_workers.progress.board import ProgressBoard
from perdure_workers.progress.writer import ProgressWriter
from perdure_workers.settings import WorkerSettings
from perdure_workers.slots import SlotsInUse
from perdure_workers.watching.index import AttemptIndex
from tests.control.factory.workflows import GREET, Greeted
from tests.workers.test_training_jobs import Objects, finished, serving
from tests.workers.workflows.test_versions import make_current
from tests.workers.workflows.versioned import server

pytestmark = [pytest.mark.temporal, pytest.mark.slow]

REGISTRY = Registry({"greet": GREET, "fine_tune": FINE_TUNE}, {"greet": "tests", "fine_tune": "Perdure"})
WISH = {"namespace": "ns", "name": "job", "spec": {"trainer": {"image": "i", "command": ["true"]}}}


@asynccontextmanager
async def running(client: Client, cluster: Cluster, build: str) -> AsyncIterator[None]:
    """The Temporal workers of a process."""
    board = ProgressBoard()
    settings = WorkerSettings.from_environment({"PERDURE_WORKER_BUILD": build, "PERDURE_WORKER_SLOTS": "4"})
    made = process._workers(
        client,
        cluster,
        AttemptIndex(),
        board,
        ProgressWriter(cluster, board, 5.0),
        None,
        CollectorRegistry(),
        settings,
        SlotsInUse(),
        extensions.usable(REGISTRY, process.sandbox()),
    )
    async with AsyncExitStack() as stack:
        for worker in made:
            await stack.enter_async_context(worker)
        if build:
            await make_current(client, build)
        yield


@pytest.mark.parametrize("build", ["", "1.0-a"], ids=["without versions", "with versions"])
async def test_workflows_of_the_factory_run_in_a_worker_process(runtime: Runtime, build: str) -> None:
    objects = Objects(statuses=[{}, finished("True", "Completed", result={"adapterUri": "s3://b/adapter"})])
    async with serving(objects) as cluster, server(runtime) as client, running(client, cluster, build):
        greet = await start_workflow(client, "greet", {"who": "Ada"}, registry=REGISTRY)
        fine_tune = await start_workflow(client, "fine_tune", WISH, registry=REGISTRY)

        assert await greet.handle.result() == Greeted(text="Hello Ada")
        assert await fine_tune.handle.result() == FineTuneResult(
            namespace="ns", name="job", uid="u", result=ResultStatus(adapter_uri="s3://b/adapter")
        )
        assert objects.there is not None
        assert objects.there["metadata"]["annotations"] == {"perdure.dev/made-by": fine_tune.id}
