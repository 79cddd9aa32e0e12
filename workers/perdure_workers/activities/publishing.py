"""Writing the workflow's part of the status, and its Events."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog
from temporalio import activity

from perdure_api import names
from perdure_api.status import TrainingJobStatus
from perdure_api.workflow import JobRef
from perdure_control.cluster import Cluster, Document, Invalid
from perdure_control.statuses import EventSource, Written, apply_status, record_event
from perdure_workers.messages import ActivityName, PublishStatus

log = structlog.get_logger(__name__)

_TIMES: Final = ("startTime", "endTime")
_ATTEMPTS: Final[Sequence[str]] = ("attempts", "attemptCounters")


class PublishingActivities:
    """Tells the cluster what the workflow knows."""

    def __init__(self, cluster: Cluster, source: EventSource) -> None:
        self._cluster = cluster
        self._source = source

    @activity.defn(name=ActivityName.PUBLISH_STATUS)
    async def publish_status(self, request: PublishStatus) -> None:
        """Writes the whole of the workflow's part. An object that is gone or final is left as it is."""
        async with asyncio.TaskGroup() as writes:
            write = None if request.notes_only else writes.create_task(self._write(request))
            for note in request.notes:
                writes.create_task(record_event(self._cluster, request.job, note, self._source))
        if write and write.result() is not Written.WRITTEN:
            log.info("status_not_written", because=str(write.result()))

    async def _write(self, request: PublishStatus) -> Written:
        job, status = request.job, request.status
        if request.acknowledgement_only:
            return await self._acknowledge(job, status.observed_generation or 0)
        try:
            return await self._apply(job, status)
        except Invalid as error:
            # Tried again it would be refused for ever, and the job would never be seen to end.
            log.error("status_refused", error=error.message, written_instead="conditions and phase only")  # noqa: TRY400 - the message says it all
            return await self._apply(job, without_what_others_told(status))

    async def _acknowledge(self, job: JobRef, generation: int) -> Written:
        def beside(shown: Document) -> Document | None:
            is_news = int(shown.get("observedGeneration") or 0) < generation
            return {"observedGeneration": generation} if is_news else None

        return await apply_status(self._cluster, job, beside, manager=names.FIELD_MANAGER_ACKNOWLEDGEMENT)

    async def _apply(self, job: JobRef, status: TrainingJobStatus) -> Written:
        document, as_of = status.to_wire(), status.workflow.as_of if status.workflow else None

        def beside(shown: Document) -> Document | None:
            """A worker that froze and thaws would else tell again what others have told and gone on from."""
            before = shown.get("workflow", {}).get("asOf")
            is_news = before is None or as_of is None or before <= as_of
            return as_told(document, shown) if is_news else None

        return await apply_status(self._cluster, job, beside, manager=names.FIELD_MANAGER_WORKFLOW)


def as_told(document: Document, shown: Document) -> Document:
    """A status with what stands there already, where a workflow tells again what it has told before.

    A workflow that another worker takes over goes its way again from where its history ends: what was done beyond that
    was told and is not recorded. What another workflow told is none of that: a status may be restored from the backup
    of another object.
    """
    if shown.get("workflow", {}).get("id") != document.get("workflow", {}).get("id"):
        return document
    return with_attempts_as_told(with_times_as_told(document, shown), shown)


def with_attempts_as_told(document: Document, shown: Document) -> Document:
    """A status with the attempts that stand there already, where it knows of fewer.

    The same run of a workflow comes to them again, a moment later. One that was reset, or begun anew, may not.
    """
    same_run = shown.get("workflow", {}).get("runId") == document.get("workflow", {}).get("runId")
    started = [each.get("attemptCounters", {}).get("started", 0) for each in (document, shown)]
    if not same_run or started[0] >= started[1]:
        return document
    kept = {name: shown[name] for name in _ATTEMPTS if name in shown}
    return {**document, **kept}


def with_times_as_told(document: Document, shown: Document) -> Document:
    """A status with the times that stand there already: when the job and its attempts began and ended.

    Where a worker of before was waiting for the API server, the time of that is not in the history, and comes out
    seconds later.
    """
    told = {attempt["number"]: attempt for attempt in shown.get("attempts", [])}
    attempts = [{**each, **_times(each, told.get(each["number"], {}))} for each in document.get("attempts", [])]
    return {**document, **_times(document, shown), **({"attempts": attempts} if attempts else {})}


def _times(news: Document, shown: Document) -> Document:
    return {name: shown[name] for name in _TIMES if name in news and name in shown}


def without_what_others_told(status: TrainingJobStatus) -> TrainingJobStatus:
    """The status in plain letters and counts only: one of what pods, people and signals told is what was refused."""
    conditions = [
        condition.model_copy(update={"observed_generation": 0, "message": _plain(condition.message)})
        for condition in status.conditions
    ]
    told = dict.fromkeys(("result", "observed_generation", "kueue_queue"))
    message = _plain(status.message or "")
    return status.model_copy(update={**told, "attempts": [], "conditions": conditions, "message": message})


def _plain(message: str) -> str:
    return "".join(character if " " <= character <= "~" else "?" for character in message)
