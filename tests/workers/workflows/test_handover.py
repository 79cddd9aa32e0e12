"""What a workflow knows is Temporal's, not a worker's; and people may go back in it with Temporal's own tool."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.runtime import Runtime

from perdure_api.spec import RetrySpec
from perdure_api.status import TrainingJobStatus
from perdure_api.workflow import SIGNAL_WISHES, Wishes
from tests.temporal_server import dev_server
from tests.workers.workflows.conftest import BUILT_IN, FAILED, OWN, World, begin, until, working

pytestmark = [pytest.mark.temporal, pytest.mark.asyncio(loop_scope="module")]

FIRST_TASK_COMPLETED = 4
"""Number of that event in every history, behind: started, task scheduled, task started."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(runtime: Runtime) -> AsyncIterator[Client]:
    """Of a whole server: the one that skips time cannot reset."""
    async with dev_server(runtime=runtime) as client:
        yield client


def failing_world(attempt: int) -> World:
    """One in which an attempt fails, and any other goes on for ever."""
    world = World(monitor_for_ever=True, endings=[FAILED])
    world._ended.add(attempt)
    return world


async def test_a_retry_budget_outlives_every_worker(client: Client) -> None:
    """Each sees one attempt fail and begins the next, which it does not see end."""
    retry = RetrySpec(max_attempts=3, initial_interval_seconds=0)
    worlds = [failing_world(attempt) for attempt in (1, 2, 3)]
    async with working(client, worlds[0]):
        handle = await begin(client, BUILT_IN.model_copy(update={"retry": retry}))
        await until(lambda: worlds[0].monitored == [1, 2])
    async with working(client, worlds[1]):
        await until(lambda: worlds[1].monitored == [2, 3])
    async with working(client, worlds[2]):
        end = await handle.result()

    assert end.reason == "MaxAttemptsReached"
    assert [(attempt.number, attempt.reason) for attempt in end.attempts] == [(n, "Failed") for n in (1, 2, 3)]
    assert end.attempt_counters
    assert (end.attempt_counters.started, end.attempt_counters.failed) == (3, 3)
    assert [[request.attempt for request in world.created] for world in worlds] == [[1, 2], [3], []]
    assert [world.checked for world in worlds] == [1, 0, 0]


async def test_a_workflow_that_is_reset_finds_its_attempts_again_and_forgets_no_wish(client: Client) -> None:
    world = World(monitor_for_ever=True)
    async with working(client, world):
        handle = await begin(client, OWN)
        await until(lambda: world.monitored == [1])
        await handle.signal(SIGNAL_WISHES, Wishes(generation=2))
        request = ResetWorkflowExecutionRequest(
            namespace=client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=handle.id, run_id=handle.first_execution_run_id or ""),
            reason="by a test",
            request_id=str(uuid.uuid4()),
            workflow_task_finish_event_id=FIRST_TASK_COMPLETED,
        )
        await client.workflow_service.reset_workflow_execution(request)
        await until(lambda: len(world.monitored) == 2)
        world.monitor_for_ever = False
        again = client.get_workflow_handle(handle.id, result_type=TrainingJobStatus)
        end = await again.result()

    assert (end.phase, end.observed_generation) == ("Succeeded", 2)
    assert [(attempt.number, attempt.job) for attempt in end.attempts] == [(1, "job-1")]
    assert [request.attempt for request in world.created] == [1, 1], "the same Job: there is one of each name"
