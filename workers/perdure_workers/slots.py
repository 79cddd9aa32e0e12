"""How many slots of a worker are in use, counted and told: to whoever sizes the pool, and to whoever makes it smaller.

Kubernetes removes the pods with the least deletion cost first, so a pod costs what it has in hand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from perdure_api import names
from perdure_api.slots import slots_text
from perdure_control.cluster import MERGE_PATCH, PODS, Cluster, ClusterError

TELL_EVERY_SECONDS: Final = 3.0
"""At most so often is a pod's annotation written."""
_RETRY_SECONDS: Final = 15.0

log = structlog.get_logger(__name__)


class SlotsInUse:
    """Activities that run here now, by task queue. Of workers that monitor there is none: they only wait."""

    def __init__(self) -> None:
        self._used: dict[str, int] = {}
        self._slots: dict[str, int] = {}
        self._changed = asyncio.Event()

    def counting(self, task_queue: str, slots: int | None = None) -> Interceptor:
        """An interceptor for the worker of a task queue: what it runs is counted from now on.

        Args:
            task_queue: Its name.
            slots: How many activities it runs at a time at most, for those who watch.
        """
        self._used.setdefault(task_queue, 0)
        if slots is not None:
            self._slots[task_queue] = slots
        return _Counting(self, task_queue)

    @property
    def used(self) -> Mapping[str, int]:
        """By task queue, those without any included."""
        return dict(self._used)

    @property
    def slots(self) -> Mapping[str, int]:
        """How many there are, by task queue, as far as it was said."""
        return dict(self._slots)

    async def changed(self) -> None:
        """Returns when something changed since this returned last."""
        await self._changed.wait()
        self._changed.clear()

    def add(self, task_queue: str, count: int) -> None:
        """Counts one more, or one less."""
        self._used[task_queue] += count
        self._changed.set()

    def register(self, registry: CollectorRegistry) -> None:
        """Tells Prometheus of each task queue that is counted."""
        registry.register(_Gauge(self))


class _Gauge(Collector):
    def __init__(self, slots: SlotsInUse) -> None:
        self._slots = slots

    def collect(self) -> Iterator[Metric]:
        gauge = GaugeMetricFamily(
            "perdure_worker_slots_used", "Activities that run in this worker now.", labels=["queue"]
        )
        for task_queue, count in self._slots.used.items():
            gauge.add_metric([task_queue], count)
        yield gauge
        slots = GaugeMetricFamily(
            "perdure_worker_slots", "Activities that this worker runs at a time at most.", labels=["queue"]
        )
        for task_queue, count in self._slots.slots.items():
            slots.add_metric([task_queue], count)
        yield slots


class _Counting(Interceptor):
    def __init__(self, slots: SlotsInUse, task_queue: str) -> None:
        self._slots = slots
        self._task_queue = task_queue

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002 - Temporal's name
        """See the base class."""
        return _Counted(next, self._slots, self._task_queue)


class _Counted(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, slots: SlotsInUse, task_queue: str) -> None:  # noqa: A002 - Temporal's name
        super().__init__(next)
        self._slots = slots
        self._task_queue = task_queue

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002 - Temporal's name
        self._slots.add(self._task_queue, 1)
        try:
            return await super().execute_activity(input)
        finally:
            self._slots.add(self._task_queue, -1)


@dataclass(frozen=True)
class OwnPod:
    """Where a worker runs, and what its task queues are in."""

    namespace: str
    name: str
    temporal_namespace: str


class SlotsTold:
    """Keeps the annotations of the worker's own pod."""

    def __init__(self, cluster: Cluster, pod: OwnPod, slots: SlotsInUse) -> None:
        self._cluster = cluster
        self._pod = pod
        self._slots = slots
        self._told: Mapping[str, int] | None = None

    async def keep(self) -> None:
        """Never returns; end it by cancelling. What an earlier process left on this pod is overwritten at once."""
        while True:
            try:
                await self.tell()
            except ClusterError as error:
                log.warning("slots_not_told", error=error.message, status=error.status)
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            await asyncio.sleep(TELL_EVERY_SECONDS)
            await self._slots.changed()

    async def tell(self) -> bool:
        """Writes what changed since the last time.

        Returns:
            Whether anything did.

        Raises:
            ClusterError: the API server is away or refuses.
        """
        used = self._slots.used
        if used == self._told:
            return False
        annotations = {
            names.ANNOTATION_SLOTS_USED: slots_text(used),
            names.ANNOTATION_TEMPORAL_NAMESPACE: self._pod.temporal_namespace,
            names.ANNOTATION_POD_DELETION_COST: str(sum(used.values())),
        }
        path = PODS.path(self._pod.namespace, self._pod.name)
        await self._cluster.patch(path, {"metadata": {"annotations": annotations}}, content_type=MERGE_PATCH)
        self._told = used
        return True
