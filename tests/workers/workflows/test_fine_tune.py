"""The workflow `fine_tune` in Temporal's time-skipping server: what it makes, what it returns, how it ends."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.testing import WorkflowEnvironment

from perdure_api import names
from perdure_api.conditions import Reason
from perdure_api.fine_tune import FineTuneInput, FineTuneResult
from perdure_api.status import ResultStatus
from perdure_workers.messages import CancelTrainingJob
from perdure_workers.workflows.fine_tune import FineTuneWorkflow
from tests.workers.workflows.conftest import BUILT_IN, World, working
from tests.workers.workflows.record import _until

pytestmark = pytest.mark.asyncio(loop_scope="module")

WISH = FineTuneInput(namespace="team-a", name="bible", spec=BUILT_IN)
Begin = Callable[[], Awaitable[WorkflowHandle[Any, FineTuneResult]]]


@pytest_asyncio.fixture(loop_scope="module")
async def begin(environment: WorkflowEnvironment, world: World) -> AsyncIterator[Begin]:
    async def started() -> WorkflowHandle[Any, FineTuneResult]:
        return await environment.client.start_workflow(
            FineTuneWorkflow.run, WISH, id=f"fine_tune-{uuid.uuid4()}", task_queue=names.TASK_QUEUE_CPU
        )

    async with working(environment.client, world):
        yield started


async def failure(handle: WorkflowHandle[Any, FineTuneResult]) -> BaseException:
    with pytest.raises(WorkflowFailureError) as raised:
        await handle.result()
    return raised.value.cause


async def test_the_job_is_made_in_the_workflows_name_and_its_result_returned(begin: Begin, world: World) -> None:
    world.outcomes = [ResultStatus(adapter_uri="s3://b/adapter", metrics={"eval_loss": 2.0})]

    handle = await begin()
    result = await handle.result()

    assert result == FineTuneResult(namespace="team-a", name="bible", uid="u", result=world.outcomes[0])
    assert [(made.namespace, made.name, made.spec, made.made_by) for made in world.submitted] == [
        ("team-a", "bible", BUILT_IN, handle.id)
    ]
    assert not world.cancelled


async def test_a_job_that_does_not_succeed_fails_it_with_the_jobs_reason_and_sentence(
    begin: Begin, world: World
) -> None:
    world.outcomes = [Reason.OUT_OF_MEMORY]

    error = await failure(await begin())

    assert isinstance(error, ApplicationError)
    assert (error.type, error.message) == ("OutOfMemory", "told as OutOfMemory")
    assert not world.cancelled


async def test_a_job_that_cannot_be_made_fails_it_and_nothing_is_followed(begin: Begin, world: World) -> None:
    world.submissions = [Reason.JOB_REFUSED]

    error = await failure(await begin())

    assert isinstance(error, ApplicationError)
    assert (error.type, error.message) == ("JobRefused", "told as JobRefused")
    assert not world.followed


async def test_cancelled_it_cancels_the_job_that_it_made(begin: Begin, world: World) -> None:
    world.monitor_for_ever = True
    handle = await begin()
    await _until(lambda: bool(world.followed))

    await handle.cancel()

    assert isinstance(await failure(handle), CancelledError)
    assert world.cancelled == [CancelTrainingJob(namespace="team-a", name="bible", made_by=handle.id)]
