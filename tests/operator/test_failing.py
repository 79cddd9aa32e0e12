"""A workflow whose own code fails: Temporal tries it for ever, so somebody has to look."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from temporalio import workflow
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.runtime import LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from perdure_api import names
from perdure_api.workflow import JobRef
from perdure_operator.drift import next_in_turn
from perdure_operator.workflows import Workflows

JOB = JobRef(namespace="ns", name="job", uid="u")


@workflow.defn(name=names.WORKFLOW_TYPE)
class Broken:
    """With a bug in it."""

    @workflow.run
    async def run(self) -> None:
        raise ValueError("rank:\n  found 0, expected at least 1")


@workflow.defn(name=names.WORKFLOW_TYPE)
class Mended:
    """The same without it."""

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: False)


@pytest_asyncio.fixture
async def client() -> AsyncIterator[Client]:
    errors = LoggingConfig(filter=TelemetryFilter(core_level="ERROR", other_level="ERROR"))
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(Path(sys.executable).with_name("temporal")),
        data_converter=pydantic_data_converter,
        runtime=Runtime(telemetry=TelemetryConfig(logging=errors)),
    ) as environment:
        yield environment.client


def worker(client: Client, implementation: type) -> Worker:
    return Worker(
        client,
        task_queue=names.TASK_QUEUE_CPU,
        workflows=[implementation],
        workflow_runner=UnsandboxedWorkflowRunner(),
    )


async def until_it_says(workflows: Workflows, *, failing: bool) -> str:
    async with asyncio.timeout(60):
        while bool(said := await workflows.failure(JOB)) is not failing:  # noqa: ASYNC110 - Temporal tells nobody
            await asyncio.sleep(0.1)
    return said


@pytest.mark.temporal
async def test_what_the_code_of_a_workflow_fails_with_is_seen_until_other_workers_do_not(client: Client) -> None:
    workflows = Workflows(client)
    assert await workflows.failure(JOB) == "", "there is none"
    await client.start_workflow(
        names.WORKFLOW_TYPE, id=JOB.workflow_id, task_queue=names.TASK_QUEUE_CPU, task_timeout=timedelta(seconds=1)
    )
    assert await workflows.failure(JOB) == "", "nobody has tried it"

    async with worker(client, Broken):
        said = await until_it_says(workflows, failing=True)
    assert said == "ValueError: rank: found 0, expected at least 1"

    async with worker(client, Mended):
        await until_it_says(workflows, failing=False)


@pytest.mark.parametrize(
    ("last", "expected"),
    [("", ["a", "b"]), ("b", ["c", "d"]), ("c", ["d", "a"]), ("d", ["a", "b"]), ("bb", ["c", "d"])],
    ids=["at first", "the next ones", "over the end", "from the start", "the last one is gone"],
)
def test_each_workflow_is_looked_at_in_its_turn(last: str, expected: list[str]) -> None:
    assert next_in_turn(["c", "a", "d", "b"], last, 2) == expected


@pytest.mark.parametrize("count", [2, 5])
def test_nobody_is_looked_at_twice_in_one_turn(count: int) -> None:
    assert next_in_turn(["b", "a"], "a", count) == ["b", "a"]
