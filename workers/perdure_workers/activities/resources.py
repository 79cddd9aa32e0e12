"""Creating and removing the Jobs of attempts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from temporalio import activity

from perdure_api import names
from perdure_api.conditions import Reason
from perdure_api.events import EventKind, EventNote
from perdure_api.pod import GRACE_SECONDS
from perdure_api.workflow import JobRef
from perdure_control.cluster import (
    JOBS,
    MERGE_PATCH,
    NETWORK_POLICIES,
    PODS,
    SERVICES,
    Cluster,
    ClusterUnavailable,
    Conflict,
    Document,
    Forbidden,
    Invalid,
    NotFound,
)
from perdure_control.statuses import TRAINING_JOBS
from perdure_workers.activities.adoption import NotUsable, adopted
from perdure_workers.activities.refusal import refusal
from perdure_workers.attempts.recall import attempts_shown
from perdure_workers.manifests import PodDefaults, needs_service, network_policy, rank_service, training_job
from perdure_workers.messages import (
    ActivityName,
    AttemptsFound,
    CleanUp,
    CommandAttempt,
    CreateJob,
    FindAttempts,
)
from perdure_workers.watching.facts import is_orphan

_LOOK_SECONDS: Final = 0.5
_LONGEST_WAIT_SECONDS: Final = GRACE_SECONDS + 35
"""After this a pod is on a node that does not answer; the cluster removes it when it can."""

log = structlog.get_logger(__name__)


class ResourceActivities:
    """Makes and removes what a training job has in the cluster."""

    def __init__(
        self,
        cluster: Cluster,
        defaults: Callable[[], PodDefaults],
        record_event: Callable[[JobRef, EventNote], Awaitable[None]],
    ) -> None:
        self._cluster = cluster
        self._defaults = defaults
        self._record_event = record_event

    @activity.defn(name=ActivityName.CREATE_TRAINING_JOB)
    async def create_training_job(self, request: CreateJob) -> None:
        """Creates the Job of an attempt; a Job of the same attempt that is there already is as good.

        Raises:
            ApplicationError: JobRefused (quota, admission, a foreign Job of that name: may change), CannotStart
                (the API server finds the Job invalid: will not) or Cancelled (there is no such TrainingJob any more;
                a first attempt is not asked that, for it costs a call).
        """
        job = request.job
        if request.attempt > 1 and not await self._is_there(job):
            raise refusal(Reason.CANCELLED, "its TrainingJob is gone, and nobody could tell its workflow so")
        defaults = self._defaults()
        manifest = training_job(job, request.spec, request.attempt, defaults, request.kueue_queue)
        try:
            if defaults.egress is not None:
                await self._isolate(job, network_policy(job, defaults.egress))
            if needs_service(request.spec):
                await self._create_service(job)
            await self._cluster.create(JOBS.path(job.namespace), manifest, fieldManager=names.FIELD_MANAGER_WORKFLOW)
        except Conflict:
            try:
                await adopted(self._cluster, job, manifest["metadata"]["name"], request.attempt)
            except NotUsable as error:
                raise refusal(Reason.JOB_REFUSED, str(error)) from error
        except Forbidden as error:
            raise refusal(Reason.JOB_REFUSED, f"the API server refuses the Job: {error.message}") from error
        except (Invalid, NotFound) as error:
            raise refusal(_reason_of_invalid(error), f"the API server refuses the Job: {error.message}") from error
        except ClusterUnavailable as error:
            if "webhook" in error.message:
                raise refusal(Reason.JOB_REFUSED, f"the API server refuses the Job: {error.message}") from error
            raise
        log.info("training_job_created", attempt=request.attempt)

    @activity.defn(name=ActivityName.FIND_ATTEMPTS)
    async def find_attempts(self, request: FindAttempts) -> AttemptsFound:
        """The attempts of which there is something in the cluster."""
        job = request.job
        selector = f"{names.LABEL_JOB_UID}={job.uid}"
        jobs = await self._list(JOBS.path(job.namespace), selector)
        pods = await self._list(PODS.path(job.namespace), selector)
        found = attempts_shown(jobs, pods)
        log.info("attempts_found", attempts=[each.number for each in found])
        return AttemptsFound(attempts=found)

    @activity.defn(name=ActivityName.COMMAND_ATTEMPT)
    async def command_attempt(self, request: CommandAttempt) -> bool:
        """Writes on an attempt's Job what its pods are to be told; whether the Job was there.

        Every worker sees it there, so whichever the pods report to tells them, also after a restart.
        """
        path = JOBS.path(request.job.namespace, names.job_name(request.job.name, request.attempt))
        annotations = {names.ANNOTATION_COMMAND: request.command.model_dump_json()}
        owned = {"metadata": {"annotations": annotations}}
        try:
            await self._cluster.patch(path, owned, content_type=MERGE_PATCH)
        except NotFound:
            return False
        log.info("attempt_commanded", attempt=request.attempt, command=str(request.command.command))
        return True

    @activity.defn(name=ActivityName.CLEANUP_RESOURCES)
    async def cleanup_resources(self, request: CleanUp) -> None:
        """Deletes Jobs and waits until no pod is left, or only such as are on a node that does not answer.

        Pods go with their Job; one that was taken from its Job is deleted by itself.

        These are waited for too where the request says so: an Event then says how to end that. The Service goes when
        all attempts do.
        """
        job = request.job
        if request.attempt is None:
            await self._delete_service(job)
        selector = f"{names.LABEL_JOB_UID}={job.uid}"
        if request.attempt is not None:
            selector += f",{names.LABEL_ATTEMPT}={request.attempt}"
        for found in await self._list(JOBS.path(job.namespace), selector):
            metadata = found["metadata"]
            await self._cluster.delete(JOBS.path(job.namespace, metadata["name"]), uid=metadata["uid"])
        waited, told = 0.0, False
        while left := await self._list(PODS.path(job.namespace), selector):
            activity.heartbeat()
            await self._end_orphans(job, left)
            if waited >= _LONGEST_WAIT_SECONDS and not told:
                log.warning("pods_stuck", pods=[pod["metadata"]["name"] for pod in left])
                if not request.until_gone:
                    return
                await self._record_event(job, _stuck(left))
                told = True
            await asyncio.sleep(_LOOK_SECONDS)
            waited += _LOOK_SECONDS

    async def _end_orphans(self, job: JobRef, pods: list[Document]) -> None:
        for pod in pods:
            metadata = pod["metadata"]
            if is_orphan(pod) and "deletionTimestamp" not in metadata:
                log.warning("orphan_deleted", pod=metadata["name"])
                await self._cluster.delete(PODS.path(job.namespace, metadata["name"]), uid=metadata["uid"])

    async def _is_there(self, job: JobRef) -> bool:
        try:
            return await self._cluster.uid(TRAINING_JOBS.path(job.namespace, job.name)) == job.uid
        except NotFound:
            return False

    async def _isolate(self, job: JobRef, policy: Document) -> None:
        """Before the Job, so that no pod is there without it; what it says may have changed since the last attempt."""
        name = policy["metadata"]["name"]
        try:
            await self._cluster.create(
                NETWORK_POLICIES.path(job.namespace), policy, fieldManager=names.FIELD_MANAGER_WORKFLOW
            )
        except Conflict:
            path = NETWORK_POLICIES.path(job.namespace, name)
            metadata = (await self._cluster.get(path))["metadata"]
            if not _is_of(job, metadata):
                message = f"a NetworkPolicy {name} that is not ours exists in namespace {job.namespace}; delete it"
                raise refusal(Reason.JOB_REFUSED, message) from None
            current = {"metadata": {"uid": metadata["uid"]}, "spec": policy["spec"]}
            await self._cluster.patch(path, current, content_type=MERGE_PATCH)

    async def _create_service(self, job: JobRef) -> None:
        """Before the Job: a name that was asked for too early is not found for a while."""
        service = rank_service(job)
        try:
            await self._cluster.create(SERVICES.path(job.namespace), service, fieldManager=names.FIELD_MANAGER_WORKFLOW)
        except Conflict:
            if not await self._own_service(job):
                name = service["metadata"]["name"]
                message = f"a Service {name} that is not ours exists in namespace {job.namespace}; delete or rename it"
                raise refusal(Reason.JOB_REFUSED, message) from None

    async def _delete_service(self, job: JobRef) -> None:
        if metadata := await self._own_service(job):
            await self._cluster.delete(SERVICES.path(job.namespace, metadata["name"]), uid=metadata["uid"])

    async def _own_service(self, job: JobRef) -> Document | None:
        """The metadata of the job's Service, if there is one."""
        try:
            found = await self._cluster.get(SERVICES.path(job.namespace, names.service_name(job.name)))
        except NotFound:
            return None
        metadata: Document = found["metadata"]
        return metadata if _is_of(job, metadata) else None

    async def _list(self, path: str, selector: str) -> list[Document]:
        answer = await self._cluster.get(path, labelSelector=selector)
        items: list[Document] = answer.get("items") or []
        return items


def _is_of(job: JobRef, metadata: Document) -> bool:
    return job.uid in {owner["uid"] for owner in metadata.get("ownerReferences") or []}


def _stuck(pods: list[Document]) -> EventNote:
    names_ = ", ".join(sorted(pod["metadata"]["name"] for pod in pods))
    nodes = ", ".join(sorted({pod["spec"].get("nodeName", "(none)") for pod in pods}))
    message = (
        f"the next attempt waits until {names_} can no longer run: node {nodes} does not answer. If that node is lost "
        "for good, delete the node object"
    )
    return EventNote(kind=EventKind.WARNING, reason=Reason.DISRUPTED, message=message)


def _reason_of_invalid(error: Invalid | NotFound) -> Reason:
    """A webhook says no with the same codes as the schema, but may change its mind."""
    if isinstance(error, NotFound) or "admission webhook" in error.message or "denied request" in error.message:
        return Reason.JOB_REFUSED
    return Reason.CANNOT_START
