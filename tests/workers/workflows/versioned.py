"""Workers that have versions, in a world that the test scripts, and a server that has not much patience with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from temporalio.client import Client
from temporalio.runtime import Runtime
from temporalio.worker import Worker

from perdure_api import names
from perdure_workers.process import VERSIONED_WORKFLOWS, WORKFLOWS, deployment_config, sandbox
from perdure_workers.settings import WorkerSettings
from tests.temporal_server import dev_server
from tests.workers.workflows.conftest import World

QUICKLY = [
    'matching.wv.VersionDrainageStatusVisibilityGracePeriod="1s"',
    'matching.wv.VersionDrainageStatusRefreshInterval="1s"',
    "limit.historyCount.suggestContinueAsNew=40",
]
"""Temporal looks every three minutes by itself; and no test makes a history of thousands of events."""


@asynccontextmanager
async def server(runtime: Runtime, *settings: str) -> AsyncIterator[Client]:
    """A client of a whole server of its own: which version is current is the same for all that it knows."""
    async with dev_server(*QUICKLY, *settings, runtime=runtime) as client:
        yield client


@asynccontextmanager
async def workers(client: Client, build: str, world: World) -> AsyncIterator[None]:
    """The two of a process of this build (none: without versions), in a world."""
    config = deployment_config(WorkerSettings.from_environment({"PERDURE_WORKER_BUILD": build}))
    cpu = Worker(
        client,
        task_queue=names.TASK_QUEUE_CPU,
        workflows=VERSIONED_WORKFLOWS if build else WORKFLOWS,
        activities=world.activities(),
        workflow_runner=sandbox(),
        deployment_config=config,
    )
    watch = Worker(client, task_queue=names.TASK_QUEUE_WATCH, activities=world.activities(), deployment_config=config)
    async with cpu, watch:
        yield


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await holds():  # noqa: ASYNC110 - a server is asked
            await asyncio.sleep(0.05)
