"""What a deleted job leaves behind deletes its checkpoints, however long that takes."""

from __future__ import annotations

import uuid

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from perdure_api import names
from perdure_api.conditions import Reason
from perdure_api.workflow import JobRef, PurgeInput
from perdure_workers.messages import CleanUp, DeleteCheckpoints
from perdure_workers.workflows.purge import PurgeWorkflow
from tests.workers.workflows.conftest import STORE_AWAY, World

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("start")]


async def purge(environment: WorkflowEnvironment) -> JobRef:
    job = JobRef(namespace="ns", name="job", uid=str(uuid.uuid4()))
    await environment.client.execute_workflow(
        PurgeWorkflow.run,
        PurgeInput(job=job, output_uri="s3://b/out"),
        id=job.purge_workflow_id,
        task_queue=names.TASK_QUEUE_CPU,
    )
    return job


async def test_pods_are_gone_before_checkpoints_are_deleted(environment: WorkflowEnvironment, world: World) -> None:
    """The job's own workflow may have been lost with its pods running."""
    job = await purge(environment)

    assert world.cleaned == [CleanUp(job=job)]
    assert world.purged == [DeleteCheckpoints(job=job, output_uri="s3://b/out")]


async def test_a_store_that_is_away_or_says_no_is_asked_again_and_again(
    environment: WorkflowEnvironment, world: World
) -> None:
    denied = ApplicationError("not yours", type=Reason.ACCESS_DENIED)
    world.purges = [*[STORE_AWAY, denied] * 5, None]

    await purge(environment)

    assert len(world.purged) == 11
