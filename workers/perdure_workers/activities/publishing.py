"""Writing the workflow's part of the status, and its Events."""

from __future__ import annotations

import asyncio

import structlog
from temporalio import activity

from perdure_api import names
from perdure_api.status import TrainingJobStatus
from perdure_api.workflow import JobRef
from perdure_control.cluster import Cluster, Invalid
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
            write = None if request.notes_only else writes.create_task(self._write(request.job, request.status))
            for note in request.notes:
                writes.create_task(record_event(self._cluster, request.job, note, self._source))
        if write and write.result() is not Written.WRITTEN:
            log.info("status_not_written", because=str(write.result()))

    async def _write(self, job: JobRef, status: TrainingJobStatus) -> Written:
        try:
            return await self._apply(job, status)
        except Invalid as error:
            # Tried again it would be refused for ever, and the job would never be seen to end.
            log.error("status_refused", error=error.message, written_instead="conditions and phase only")  # noqa: TRY400 - the message says it all
            return await self._apply(job, status.model_copy(update={"attempts": [], "result": None}))

    async def _apply(self, job: JobRef, status: TrainingJobStatus) -> Written:
        return await apply_status(self._cluster, job, status.to_wire(), manager=names.FIELD_MANAGER_WORKFLOW)
