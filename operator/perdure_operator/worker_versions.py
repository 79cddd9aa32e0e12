"""Temporal's side of versions of the workers: its Worker Deployment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from google.protobuf.field_mask_pb2 import FieldMask
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.deployment.v1 import WorkerDeploymentVersion
from temporalio.api.enums.v1 import TaskQueueType, WorkerDeploymentVersionStatus
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import VersioningOverride, WorkflowExecutionOptions
from temporalio.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    DescribeWorkerDeploymentRequest,
    SetWorkerDeploymentCurrentVersionRequest,
    UpdateWorkflowExecutionOptionsRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from perdure_api import names
from perdure_operator.versions import Known, Standing

_CALL_TIMEOUT: Final = timedelta(seconds=10)
_IDENTITY: Final = "perdure-operator"
_NO_VERSIONS: Final = frozenset({RPCStatusCode.UNIMPLEMENTED, RPCStatusCode.PERMISSION_DENIED})
"""Of a server that is too old, and of one whose operators have switched them off."""
_STANDINGS: Final = {
    WorkerDeploymentVersionStatus.WORKER_DEPLOYMENT_VERSION_STATUS_CURRENT: Standing.CURRENT,
    WorkerDeploymentVersionStatus.WORKER_DEPLOYMENT_VERSION_STATUS_RAMPING: Standing.RAMPING,
    WorkerDeploymentVersionStatus.WORKER_DEPLOYMENT_VERSION_STATUS_DRAINING: Standing.DRAINING,
    WorkerDeploymentVersionStatus.WORKER_DEPLOYMENT_VERSION_STATUS_DRAINED: Standing.DRAINED,
}
_QUEUES: Final = (
    (names.TASK_QUEUE_CPU, TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW),
    (names.TASK_QUEUE_WATCH, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY),
)


class VersionsUnavailable(Exception):
    """Temporal does not say, or not do, what was asked; the message is a sentence."""


class WorkerVersions:
    """The versions of our workers, as Temporal has them."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def use(self, client: Client) -> None:
        """Takes another client from now on; calls that are under way end on the one before."""
        self._client = client

    async def look(self) -> Known:
        """How they stand.

        Raises:
            VersionsUnavailable: Temporal is away, or knows no versions of workers.
        """
        request = DescribeWorkerDeploymentRequest(
            namespace=self._client.namespace, deployment_name=names.WORKER_DEPLOYMENT
        )
        async with _told():
            try:
                answer = await self._client.workflow_service.describe_worker_deployment(request, timeout=_CALL_TIMEOUT)
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
                return Known()  # no worker that has a version has ever polled
            polling = [await self._polling(queue, kind) for queue, kind in _QUEUES]
        info = answer.worker_deployment_info
        return Known(
            current=info.routing_config.current_deployment_version.build_id,
            standings={
                version.deployment_version.build_id: _STANDINGS.get(version.status, Standing.INACTIVE)
                for version in info.version_summaries
            },
            polling=frozenset.intersection(*polling),
            token=answer.conflict_token,
        )

    async def make_current(self, build: str, token: bytes) -> None:
        """Lets what is new go to a version, unless somebody has changed something since it was looked.

        Raises:
            VersionsUnavailable: it did not; Temporal refuses one whose workers lack a task queue that is in use.
        """
        request = SetWorkerDeploymentCurrentVersionRequest(
            namespace=self._client.namespace,
            deployment_name=names.WORKER_DEPLOYMENT,
            build_id=build,
            conflict_token=token,
            identity=_IDENTITY,
        )
        async with _told():
            await self._client.workflow_service.set_worker_deployment_current_version(request, timeout=_CALL_TIMEOUT)

    async def open_workflows(self, build: str) -> int:
        """How many workflows have yet to be carried on by a version.

        Raises:
            VersionsUnavailable: Temporal does not say.
        """
        async with _told():
            count = await self._client.count_workflows(_running(build), rpc_timeout=_CALL_TIMEOUT)
        return count.count

    async def take_over(self, build: str, by: str) -> int:
        """Pins the workflows of one version to another; how many there were.

        Raises:
            VersionsUnavailable: not all could be.
        """
        moved = 0
        async with _told():
            async for execution in self._client.list_workflows(_running(build), rpc_timeout=_CALL_TIMEOUT):
                moved += await self._pin(execution.id, execution.run_id, by)
        return moved

    async def _polling(self, queue: str, kind: TaskQueueType.ValueType) -> frozenset[str]:
        request = DescribeTaskQueueRequest(
            namespace=self._client.namespace, task_queue=TaskQueue(name=queue), task_queue_type=kind
        )
        answer = await self._client.workflow_service.describe_task_queue(request, timeout=_CALL_TIMEOUT)
        options = [poller.deployment_options for poller in answer.pollers]
        # Workers without a version name no Worker Deployment either.
        return frozenset(each.build_id for each in options if each.deployment_name in {"", names.WORKER_DEPLOYMENT})

    async def _pin(self, id_: str, run_id: str, build: str) -> bool:
        """Whether there was something to pin: one that has ended meanwhile needs nobody."""
        pinned = VersioningOverride.PinnedOverride(
            behavior=VersioningOverride.PINNED_OVERRIDE_BEHAVIOR_PINNED,
            version=WorkerDeploymentVersion(deployment_name=names.WORKER_DEPLOYMENT, build_id=build),
        )
        request = UpdateWorkflowExecutionOptionsRequest(
            namespace=self._client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=id_, run_id=run_id),
            workflow_execution_options=WorkflowExecutionOptions(versioning_override=VersioningOverride(pinned=pinned)),
            update_mask=FieldMask(paths=["versioning_override"]),
            identity=_IDENTITY,
        )
        try:
            await self._client.workflow_service.update_workflow_execution_options(request, timeout=_CALL_TIMEOUT)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            return False
        return True


def _running(build: str) -> str:
    return f"TemporalWorkerDeploymentVersion = '{names.WORKER_DEPLOYMENT}:{build}' AND ExecutionStatus = 'Running'"


@asynccontextmanager
async def _told() -> AsyncIterator[None]:
    """What went wrong with Temporal, as a sentence."""
    try:
        yield
    except RPCError as error:
        if error.status in _NO_VERSIONS:
            raise VersionsUnavailable(
                f"Temporal tells no versions of workers apart ({error.message}); upgrade it to 1.29 or later and leave "
                f"system.enableDeploymentVersions on, or install the chart with worker.versioning.enabled=false"
            ) from error
        raise VersionsUnavailable(f"Temporal: {error.status.name.lower()}: {error.message}") from error
    except RuntimeError as error:
        # A lazy client's first connection fails with nothing more specific (sdk-python, bridge).
        if "Failed client connect" in str(error):
            raise VersionsUnavailable(f"Temporal: {error}") from error
        raise
