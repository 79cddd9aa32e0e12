"""The Kubernetes side: TrainingJobs, their finalizer, their status and their Events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from perdure_api import names
from perdure_api.conditions import is_terminal
from perdure_api.events import EventNote
from perdure_api.status import TrainingJobStatus
from perdure_api.workflow import JobRef
from perdure_control.cluster import JSON_PATCH, Cluster, Conflict, Document, Invalid, NotFound
from perdure_control.statuses import (
    TRAINING_JOBS,
    EventSource,
    Written,
    apply_status,
    namespace_ends,
    record_event,
)
from perdure_operator.decision import with_finalizer, without_finalizer
from perdure_operator.observation import Observation, observe

_PAGE: Final = 500
_TRIES: Final = 5


class TrainingJobs:
    """The TrainingJobs of a cluster."""

    def __init__(self, cluster: Cluster, source: EventSource) -> None:
        self._cluster = cluster
        self._source = source

    async def read(self, job: JobRef) -> Observation | None:
        """The object as it is now; None when it is gone, or another one has its name.

        Raises:
            ClusterError: the API server is away or refuses.
        """
        try:
            seen = observe(await self._cluster.get(_path(job)))
        except NotFound:
            return None
        return seen if seen.job.uid == job.uid else None

    async def hold(self, seen: Observation) -> Observation | None:
        """Puts our finalizer on an object, unless it is being deleted.

        Returns:
            The object as it is now; None when it is gone.

        Raises:
            ClusterError: the API server is away or refuses.
        """
        return await self._set_finalizers(seen, held=True)

    async def release(self, seen: Observation) -> None:
        """Takes our finalizer off an object.

        Raises:
            ClusterError: the API server is away or refuses.
        """
        await self._set_finalizers(seen, held=False)

    async def delete(self, job: JobRef) -> None:
        """Deletes an object and, in the background, what it owns.

        Raises:
            ClusterError: the API server is away or refuses.
        """
        try:
            await self._cluster.delete(_path(job), propagation="Background", uid=job.uid)
        except Conflict:
            return  # another object of the same name

    async def publish(self, seen: Observation, status: dict[str, Any]) -> Written:
        """Publishes the operator's part of a status.

        What is said of an object that goes on says nothing of one that has finished since it was seen.

        Raises:
            ClusterError: the API server is away or refuses the document.
        """

        def beside(shown: Document) -> Document | None:
            has_ended = is_terminal(TrainingJobStatus.from_wire(shown).conditions)
            return status if seen.terminal or not has_ended else None

        written = await apply_status(self._cluster, seen.job, beside, manager=names.FIELD_MANAGER_OPERATOR)
        return Written.FINAL if written is Written.OVERTAKEN else written

    async def tell(self, job: JobRef, note: EventNote) -> None:
        """Records an Event on an object.

        Raises:
            ClusterError: the API server is away.
        """
        await record_event(self._cluster, job, note, self._source)

    async def namespace_ends(self, job: JobRef) -> bool:
        """Whether the namespace of an object is being deleted with all that is in it.

        Raises:
            ClusterError: the API server is away.
        """
        return await namespace_ends(self._cluster, job, self._source)

    async def all(self, namespaces: Sequence[str]) -> AsyncIterator[list[Observation]]:
        """Every object of the namespaces (none: of all), a page at a time.

        Raises:
            ClusterError: the API server is away or refuses.
        """
        for namespace in namespaces or (None,):
            token = ""
            while True:
                page = await self._cluster.get(
                    TRAINING_JOBS.path(namespace), limit=_PAGE, **({"continue": token} if token else {})
                )
                yield [observe(item) for item in page["items"]]
                token = page["metadata"].get("continue", "")
                if not token:
                    break

    async def _set_finalizers(self, seen: Observation, *, held: bool) -> Observation | None:
        current: Observation | None = seen
        for _ in range(_TRIES):
            if current is None or (held and current.deleting) or _is_as_wanted(current, held=held):
                return current
            try:
                return observe(
                    await self._cluster.patch(
                        _path(current.job), _finalizer_patch(current, held=held), content_type=JSON_PATCH
                    )
                )
            except NotFound:
                return None
            except (Conflict, Invalid):
                # A test of the patch failed: the list is not what we saw. With the newest one it will not.
                current = await self.read(current.job)
        raise Invalid(f"{_path(seen.job)}: its finalizers changed {_TRIES} times in a row while ours was to be changed")


def _path(job: JobRef) -> str:
    return TRAINING_JOBS.path(job.namespace, job.name)


def _is_as_wanted(seen: Observation, *, held: bool) -> bool:
    return seen.held == held and not (held and seen.restored)


def _finalizer_patch(seen: Observation, *, held: bool) -> list[Document]:
    """A patch that fails when it is another object, or when somebody else changed the list meanwhile.

    No resourceVersion: the workflow writes the status at the same time, and has nothing to do with this.
    """
    others = without_finalizer(seen.finalizers)
    return [
        {"op": "test", "path": "/metadata/uid", "value": seen.job.uid},
        {"op": "test", "path": "/metadata/finalizers", "value": list(seen.finalizers) or None},
        {"op": "add", "path": "/metadata/finalizers", "value": with_finalizer(tuple(others)) if held else others},
        *(_holder_patch(seen) if held else []),
    ]


def _holder_patch(seen: Observation) -> list[Document]:
    """Says whom the finalizer was put on for. Into a map that is not there nothing can be put."""
    if seen.annotated:
        key = names.ANNOTATION_HELD_FOR.replace("/", "~1")
        return [{"op": "add", "path": f"/metadata/annotations/{key}", "value": seen.job.uid}]
    return [
        {"op": "test", "path": "/metadata/annotations", "value": None},
        {"op": "add", "path": "/metadata/annotations", "value": {names.ANNOTATION_HELD_FOR: seen.job.uid}},
    ]
