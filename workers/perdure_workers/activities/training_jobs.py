"""TrainingJob objects that workflows make, as a person would with kubectl."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError

from perdure_api import names
from perdure_api.conditions import ConditionStatus, ConditionType, Reason
from perdure_api.status import ResultStatus, TrainingJobStatus
from perdure_api.workflow import JobRef
from perdure_control.cluster import MERGE_PATCH, Cluster, ClusterUnavailable, Conflict, Document, NotFound, Refused
from perdure_control.statuses import TRAINING_JOBS, read_status
from perdure_workers.activities.refusal import refusal
from perdure_workers.activities.waiting import next_look
from perdure_workers.messages import ActivityName, CancelTrainingJob, FollowTrainingJob, SubmitTrainingJob

_FIRST_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 15.0
"""A look is one small read: a thousand jobs that are followed ask the API server 67 times a second at most."""
_UNPROCESSABLE: Final = 422
"""The schema and its rules say no."""

log = structlog.get_logger(__name__)


class TrainingJobActivities:
    """Makes, follows and cancels TrainingJobs."""

    def __init__(self, cluster: Cluster, first_pause_seconds: float = _FIRST_PAUSE_SECONDS) -> None:
        self._cluster = cluster
        self._first_pause_seconds = first_pause_seconds

    @activity.defn(name=ActivityName.SUBMIT_TRAINING_JOB)
    async def submit_training_job(self, request: SubmitTrainingJob) -> JobRef:
        """The TrainingJob, which is made unless the same workflow has made it already.

        Raises:
            ApplicationError: InvalidSpec (the API server does not take it), or JobRefused (another object has the name,
                or this worker may not make one there).
        """
        manifest = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": request.name, "annotations": {names.ANNOTATION_MADE_BY: request.made_by}},
            "spec": request.spec.to_wire(),
        }
        where = f"TrainingJob {request.namespace}/{request.name}"
        try:
            path = TRAINING_JOBS.path(request.namespace)
            made = await self._cluster.create(path, manifest, fieldManager=names.FIELD_MANAGER_FINE_TUNE)
        except Conflict:
            made = await self._made_before(request, where)
        except Refused as error:
            reason = Reason.INVALID_SPEC if error.status == _UNPROCESSABLE else Reason.JOB_REFUSED
            raise refusal(reason, f"the API server refuses {where}: {error.message}") from error
        metadata = made["metadata"]
        log.info("training_job_submitted", trainingjob=request.name, namespace=request.namespace)
        return JobRef(
            namespace=request.namespace,
            name=request.name,
            uid=metadata["uid"],
            generation=metadata.get("generation", 1),
        )

    @activity.defn(name=ActivityName.FOLLOW_TRAINING_JOB)
    async def follow_training_job(self, request: FollowTrainingJob) -> ResultStatus:
        """What came out of a TrainingJob, once it has ended.

        Raises:
            ApplicationError: the job's reason and sentence, or Cancelled when the object was deleted.
        """
        stop = asyncio.create_task(activity.wait_for_worker_shutdown())
        pause_seconds = self._first_pause_seconds
        try:
            while not (status := await self._status(request.job)).terminal:
                activity.heartbeat()
                await next_look(asyncio.Event(), stop, pause_seconds)
                pause_seconds = min(pause_seconds * 1.5, _LONGEST_PAUSE_SECONDS)
        finally:
            stop.cancel()
        return _result(request.job, status)

    @activity.defn(name=ActivityName.CANCEL_TRAINING_JOB)
    async def cancel_training_job(self, request: CancelTrainingJob) -> None:
        """Asks for the end of a TrainingJob, unless there is none, or another one than the workflow has made."""
        path = TRAINING_JOBS.path(request.namespace, request.name)
        try:
            there = await self._cluster.get(path)
            if _made_by(there) != request.made_by:
                return
            wish = {"uid": there["metadata"]["uid"], "annotations": {names.ANNOTATION_CANCEL: "true"}}
            await self._cluster.patch(path, {"metadata": wish}, content_type=MERGE_PATCH)
        except (NotFound, Conflict):
            return  # gone, or another one has its name by now
        log.info("training_job_cancelled", trainingjob=request.name, namespace=request.namespace)

    async def _made_before(self, request: SubmitTrainingJob, where: str) -> Document:
        try:
            there = await self._cluster.get(TRAINING_JOBS.path(request.namespace, request.name))
        except NotFound as error:
            raise ClusterUnavailable(f"{where} was there a moment ago and is gone: try again") from error
        if (maker := _made_by(there)) != request.made_by:
            whose = f"the workflow {maker} has made it" if maker else "no workflow has made it"
            raise refusal(
                Reason.JOB_REFUSED, f"there is a {where} already, and {whose}; choose another name, or delete it"
            )
        return there

    async def _status(self, job: JobRef) -> TrainingJobStatus:
        status = await read_status(self._cluster, job)
        if status is None:
            raise refusal(
                Reason.CANCELLED, f"TrainingJob {job.namespace}/{job.name} was deleted before it was finished"
            )
        return status


def _made_by(document: Document) -> str | None:
    maker: str | None = (document["metadata"].get("annotations") or {}).get(names.ANNOTATION_MADE_BY)
    return maker


def _result(job: JobRef, status: TrainingJobStatus) -> ResultStatus:
    ended = status.condition(ConditionType.SUCCEEDED)
    if ended and ended.status is ConditionStatus.TRUE:
        return status.result or ResultStatus()
    raise _failure(job, status)


def _failure(job: JobRef, status: TrainingJobStatus) -> ApplicationError:
    ended = status.condition(ConditionType.SUCCEEDED)
    told = status.reason or (ended.reason if ended else "")
    reason = Reason(told) if told in set(Reason) else Reason.FAILED
    message = status.message or (ended.message if ended else "") or "it does not say why"
    return refusal(reason, f"TrainingJob {job.namespace}/{job.name} did not succeed ({told}): {message}")
