"""What is worth knowing of a Job and a pod, read once from their documents.

A worker keeps these for thousands of objects, so they hold what decisions need and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import ValidationError

from perdure_api import names
from perdure_api.pod import CONTAINER_NAME
from perdure_api.progress import AttemptCommand

Document = dict[str, Any]
_BEING_CREATED: Final = frozenset({"ContainerCreating", "PodInitializing"})


@dataclass(frozen=True, slots=True)
class Cause:
    """A reason in one word and a sentence, as Kubernetes gives them."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Termination:
    """How a container ended."""

    exit_code: int
    signal: int
    """0 when it was not a signal, or the runtime did not tell."""
    reason: str
    message: str
    """The termination message, whatever the container wrote there."""


@dataclass(frozen=True, slots=True)
class AttemptKey:
    """One attempt of one TrainingJob. Its namespace is a part of it: whoever may write in another may set any label."""

    namespace: str
    job_uid: str
    attempt: int

    @property
    def trainingjob(self) -> tuple[str, str]:
        """Namespace and uid of the TrainingJob."""
        return self.namespace, self.job_uid


@dataclass(frozen=True, slots=True)
class PodFacts:
    """A training pod."""

    key: AttemptKey
    trainingjob: str
    """Full name of the TrainingJob."""
    namespace: str
    name: str
    uid: str
    node: str | None
    phase: str
    deleting: bool
    """Somebody wants it gone; it may run for a while yet, on an unreachable node for ever."""
    cause: Cause | None
    """The pod's own reason: Evicted, NodeLost, UnexpectedAdmissionError, …"""
    unschedulable: str | None
    """What the scheduler lacked."""
    disruption: Cause | None
    """The DisruptionTarget condition: preempted, evicted, drained."""
    waiting: Cause | None
    running: bool
    termination: Termination | None
    rank: int = 0
    """Which of the attempt's nodes it is."""
    silent: bool = False
    """Its node does not answer: the cluster took its readiness away while, as far as anybody knows, it runs."""
    due_at: float | None = None
    """Unix seconds by which its node should have ended it; None: nobody wants it gone."""
    orphan: bool = False
    """It belongs to no Job any more (`kubectl delete job --cascade=orphan`): nobody ends it but us."""
    foreign: bool = False
    """Something else controls it than the attempt's Job: it bears the attempt's labels, and no more."""
    hindrance: str = ""
    """What keeps its node from starting it, which is said in Events only; empty: nothing that was asked for."""

    @property
    def on_its_way(self) -> bool:
        """Whether a node has yet to start it, and its container does not say what it lacks."""
        begun = self.running or self.termination is not None or self.ended
        creating = self.waiting is None or self.waiting.reason in _BEING_CREATED
        return self.node is not None and creating and not (begun or self.deleting)

    @property
    def ended(self) -> bool:
        """Whether no process of it can run any more."""
        return self.phase in {"Succeeded", "Failed"}


@dataclass(frozen=True, slots=True)
class JobFacts:
    """The Job of an attempt."""

    key: AttemptKey
    namespace: str
    name: str
    uid: str
    failed: Cause | None
    completed: bool = False
    """Every pod has done its work, whether it is still there or not."""
    command: AttemptCommand | None = None
    """What its pods are to be told."""
    kueue_queue: str = ""
    """The queue of Kueue that lets it run; empty: none."""
    suspended: bool = False
    """It may have no pods: Kueue has not let it run yet, or takes them away again."""
    started_at: float | None = None
    """Unix seconds since when it may have pods, as its controller tells."""
    foreign: bool = False
    """It is not the TrainingJob's, or not of the attempt's name: it bears the attempt's labels, and no more."""


def attempt_key(document: Document) -> AttemptKey | None:
    """The attempt that an object belongs to; None for an object that only looks like ours."""
    metadata = document["metadata"]
    labels = metadata.get("labels") or {}
    uid, attempt = labels.get(names.LABEL_JOB_UID), labels.get(names.LABEL_ATTEMPT, "")
    return AttemptKey(metadata["namespace"], uid, int(attempt)) if uid and attempt.isdecimal() else None


def pod_facts(document: Document) -> PodFacts | None:
    """The facts of a pod; None for a pod that is no attempt's."""
    key = attempt_key(document)
    if key is None:
        return None
    metadata, status = document["metadata"], document.get("status") or {}
    conditions = {condition["type"]: condition for condition in status.get("conditions") or []}
    state = _trainer_state(status)
    scheduled = conditions.get("PodScheduled", {})
    disruption = conditions.get("DisruptionTarget", {})
    return PodFacts(
        key=key,
        trainingjob=(metadata.get("annotations") or {}).get(names.ANNOTATION_JOB_NAME, ""),
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        node=(document.get("spec") or {}).get("nodeName"),
        phase=status.get("phase", "Pending"),
        deleting="deletionTimestamp" in metadata,
        cause=_cause(status) if status.get("reason") else None,
        unschedulable=scheduled.get("message", "") if scheduled.get("status") == "False" else None,
        disruption=_cause(disruption) if disruption.get("status") == "True" else None,
        waiting=_cause(state["waiting"]) if "waiting" in state else None,
        running="running" in state,
        termination=_termination(state["terminated"]) if "terminated" in state else None,
        rank=_rank(metadata.get("annotations") or {}),
        silent=_is_silent(conditions, state),
        due_at=_unix_seconds(metadata.get("deletionTimestamp")),
        orphan=is_orphan(document),
        foreign=_is_foreign_pod(document, key),
    )


def is_orphan(pod: Document) -> bool:
    """Whether a pod belongs to nobody who would end it."""
    return _controller(pod) is None


def _controller(document: Document) -> Document | None:
    owners: list[Document] = document["metadata"].get("ownerReferences") or []
    return next((owner for owner in owners if owner.get("controller")), None)


def _is_foreign_pod(pod: Document, key: AttemptKey) -> bool:
    # By the name of its Job, not the uid: a Job that was made again must not hide what still runs of the one before.
    owner = _controller(pod)
    return owner is not None and not (owner.get("kind") == "Job" and _is_named_so(owner["name"], pod, key))


def _is_foreign_job(job: Document, key: AttemptKey) -> bool:
    owners = {owner["uid"] for owner in job["metadata"].get("ownerReferences") or []}
    return key.job_uid not in owners or not _is_named_so(job["metadata"]["name"], job, key)


def _is_named_so(job_name: str, document: Document, key: AttemptKey) -> bool:
    """Whether the attempt's Job would have this name, as far as the document tells whose attempt it is."""
    trainingjob = (document["metadata"].get("annotations") or {}).get(names.ANNOTATION_JOB_NAME)
    return trainingjob is None or job_name == names.job_name(trainingjob, key.attempt)


def job_facts(document: Document) -> JobFacts | None:
    """The facts of a Job; None for a Job that is no attempt's."""
    key = attempt_key(document)
    if key is None:
        return None
    metadata, status = document["metadata"], document.get("status") or {}
    conditions = {condition["type"]: condition for condition in status.get("conditions") or []}
    failed = conditions.get("Failed", {})
    return JobFacts(
        key=key,
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        failed=_cause(failed) if failed.get("status") == "True" else None,
        completed=conditions.get("Complete", {}).get("status") == "True",
        command=_command(metadata.get("annotations") or {}),
        kueue_queue=(metadata.get("labels") or {}).get(names.LABEL_KUEUE_QUEUE, ""),
        suspended=(document.get("spec") or {}).get("suspend") is True,
        started_at=_unix_seconds(status.get("startTime")),
        foreign=_is_foreign_job(document, key),
    )


def _command(annotations: Document) -> AttemptCommand | None:
    """None also for what makes no sense: anybody who may change Jobs can write there."""
    try:
        return AttemptCommand.model_validate_json(annotations[names.ANNOTATION_COMMAND])
    except (KeyError, ValidationError):
        return None


def _rank(annotations: Document) -> int:
    index = annotations.get(names.ANNOTATION_COMPLETION_INDEX, "")
    return int(index) if index.isdecimal() else 0


def _is_silent(conditions: Mapping[str, Document], state: Document) -> bool:
    """A kubelet takes both away, the node controller only the first: it does so when a kubelet is not heard of."""
    ready, containers = (conditions.get(name, {}).get("status") for name in ("Ready", "ContainersReady"))
    return "running" in state and ready != "True" and containers == "True"


def _unix_seconds(time: str | None) -> float | None:
    return datetime.fromisoformat(time).timestamp() if time else None


def _trainer_state(status: Document) -> Document:
    containers = status.get("containerStatuses") or []
    ours = next((container for container in containers if container["name"] == CONTAINER_NAME), None)
    return (ours or {}).get("state") or {}


def _cause(document: Document) -> Cause:
    return Cause(document.get("reason", ""), document.get("message", ""))


def _termination(state: Document) -> Termination:
    return Termination(
        exit_code=state.get("exitCode", 0),
        signal=state.get("signal", 0),
        reason=state.get("reason", ""),
        message=state.get("message", ""),
    )
