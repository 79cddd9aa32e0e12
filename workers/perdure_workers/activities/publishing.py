"""Writing the workflow's part of the status, and its Events."""

from __future__ import annotations

import asyncio

import structlog
from temporalio import activity

from perdure_api import names
from perdure_control.cluster import Cluster
from perdure_control.statuses import EventSource, Written, apply_status, record_event
from perdure_workers.messages import ActivityName, PublishStatus

log = structlog.get_logger(__name__)


class PublishingActivities:
    """Tells the cluster what the workflow knows."""

    def __init__(self, cluster: Cluster, source: EventSource) -> None:
        self._cluster = cluster
        self._source = source

    @activity.defn(name=ActivityName.PUBLISH_STATUS)
    async def publish_status(self, request: PublishStatus) -> None:
        """Writes the whole of the workflow's part. An object that is gone or final is left as it is."""
        async with asyncio.TaskGroup() as writes:
            status = request.status.to_wire()
            write = writes.create_task(
                apply_status(self._cluster, request.job, status, manager=names.FIELD_MANAGER_WORKFLOW)
            )
            for note in request.notes:
                writes.create_task(record_event(self._cluster, request.job, note, self._source))
        if write.result() is not Written.WRITTEN:
            log.info(
                "status_not_written",
                trainingjob=request.job.name,
                namespace=request.job.namespace,
                because=str(write.result()),
            )
