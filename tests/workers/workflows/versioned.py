"""Workers that have versions, in a world that the test scripts, and a server that has not much patience with them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.runtime import Runtime
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from perdure_api import names
from perdure_workers.process import VERSIONED_WORKFLOWS, WORKFLOWS, deployment_config, sandbox
from perdure_workers.settings import WorkerSettings
from tests.workers.workflows.conftest import World

QUICKLY = [
    argument
    for setting in (
        'matching.wv.VersionDrainageStatusVisibilityGracePeriod="1s"',
        'matching.wv.VersionDrainageStatusRefreshInterval="1s"',
        "limit.historyCount.suggestContinueAsNew=40",
    )
    for argument in ("--dynamic-config-value", setting)
]
"""Temporal looks every three minutes by itself; and no test makes a history of thousands of events."""


@asynccontextmanager
async def server(runtime: Runtime, *settings: str) -> AsyncIterator[Client]:
    """A client of a whole server of its own: which version is current is the same for all that it knows."""
    program = str(Path(sys.executable).with_name("temporal"))
    more = [argument for setting in settings for argument in ("--dynamic-config-value", setting)]
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=program,
        dev_server_extra_args=[*QUICKLY, *more],
        data_converter=pydantic_data_converter,
        runtime=runtime,
    ) as environment:
        yield environment.client


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
    async with asyncio.timeout(30):
        while not await holds():  # noqa: ASYNC110 - a server is asked
            await asyncio.sleep(0.05)
