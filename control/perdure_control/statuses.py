"""Writes to the status of TrainingJobs, and Events about them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from perdure_api import names
from perdure_api.conditions import Reason
from perdure_api.events import EventKind, EventNote
from perdure_api.status import TrainingJobStatus
from perdure_api.workflow import JobRef
from perdure_control.cluster import (
    EVENTS,
    Cluster,
    ClusterUnavailable,
    Collection,
    Conflict,
    Document,
    Forbidden,
    Invalid,
    NotFound,
)

TRAINING_JOBS: Final = Collection(names.API_VERSION, names.PLURAL)

_EVENT_MESSAGE_LIMIT: Final = 1024
_TIMES_OVERTAKEN: Final = 20
"""Writes of others that may come between reading a status and writing it; each is as quick as ours."""
_NAMESPACE_TERMINATING: Final = "NamespaceTerminating"
_QUESTION: Final = EventNote(kind=EventKind.NORMAL, reason=Reason.PENDING, message="is this namespace to stay?")


class Written(StrEnum):
    """What became of a status write."""

    WRITTEN = "written"
    GONE = "gone"
    """The object is no more, or is another one of the same name."""
    FINAL = "final"
    """The object is finished, and the API server lets nobody change that."""
    OVERTAKEN = "overtaken"
    """What stands there is newer than what was to be written."""


async def read_status(cluster: Cluster, job: JobRef) -> TrainingJobStatus | None:
    """The status as it stands; None when the object is gone, or another one of the same name.

    Raises:
        ClusterError: the API server is away.
    """
    try:
        document = await cluster.get(TRAINING_JOBS.path(job.namespace, job.name))
    except NotFound:
        return None
    if document["metadata"]["uid"] != job.uid:
        return None
    return TrainingJobStatus.from_wire(document.get("status") or {})


async def apply_status(
    cluster: Cluster,
    job: JobRef,
    status: Document | Callable[[Document], Document | None],
    *,
    manager: str,
) -> Written:
    """Applies a manager's whole part of a status: what it named before and names no longer is removed.

    Whoever was held up between looking and writing (a node that froze, say) changes nothing that was written meanwhile
    without looking again.

    Args:
        cluster: Where.
        job: Which object; another object of the same name is left alone.
        status: camelCase fields; or what they are beside a status as it stands, None where that is newer.
        manager: Field manager.

    Raises:
        ClusterError: the API server is away or refuses the document itself.
    """
    try:
        for _ in range(_TIMES_OVERTAKEN):
            found = await cluster.get(TRAINING_JOBS.path(job.namespace, job.name))
            if found["metadata"]["uid"] != job.uid:
                return Written.GONE
            part = status(found.get("status") or {}) if callable(status) else status
            if part is None:
                return Written.OVERTAKEN
            try:
                await _apply(cluster, job, part, manager, found["metadata"]["resourceVersion"])
            except Conflict:
                continue
            return Written.WRITTEN
    except NotFound:
        return Written.GONE
    except Invalid as error:
        if names.FINAL_STATUS_MESSAGE in error.message:
            return Written.FINAL
        raise
    raise ClusterUnavailable(f"others wrote {_TIMES_OVERTAKEN} times before this could be written")


async def _apply(cluster: Cluster, job: JobRef, status: Document, manager: str, resource_version: str) -> None:
    # The resource version, unlike a uid, is a precondition of writing a status.
    metadata = {"name": job.name, "namespace": job.namespace, "resourceVersion": resource_version}
    body = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": metadata, "status": status}
    await cluster.apply(TRAINING_JOBS.path(job.namespace, job.name, "status"), body, manager=manager)


@dataclass(frozen=True)
class EventSource:
    """Who speaks in an Event."""

    component: str
    instance: str


async def record_event(cluster: Cluster, job: JobRef, note: EventNote, source: EventSource) -> None:
    """Records an Event on a TrainingJob. A namespace on its way out takes no new ones: that is fine."""
    try:
        await cluster.create(EVENTS.path(job.namespace), _event(job, note, source))
    except (Conflict, NotFound, Forbidden):
        return


async def namespace_ends(cluster: Cluster, job: JobRef, source: EventSource) -> bool:
    """Whether the namespace of a TrainingJob is on its way out: it then takes no Event, and this one is never recorded.

    Whoever may record Events may ask so, without a right to read namespaces.

    Raises:
        ClusterError: the API server is away.
    """
    try:
        await cluster.create(EVENTS.path(job.namespace), _event(job, _QUESTION, source), dryRun="All")
    except Forbidden as error:
        return _NAMESPACE_TERMINATING in error.causes
    except (Conflict, NotFound):
        return False
    return False


def _event(job: JobRef, note: EventNote, source: EventSource) -> Document:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    # A name made from the content: a repeated activity repeats the request, not the Event.
    digest = hashlib.sha256(f"{job.uid}{note.reason}{note.message}{note.occasion}".encode()).hexdigest()[:16]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{names.label_value(job.name)}.{digest}", "namespace": job.namespace},
        "involvedObject": {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "name": job.name,
            "namespace": job.namespace,
            "uid": job.uid,
        },
        "type": note.kind,
        "reason": note.reason,
        "message": note.message[:_EVENT_MESSAGE_LIMIT],
        "source": {"component": source.component, "host": source.instance},
        "reportingComponent": source.component,
        "reportingInstance": source.instance,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
