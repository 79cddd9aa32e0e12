"""Reads backlogs from Temporal and slots from the workers' pods, over and over."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, Final

import structlog
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.client import Client
from temporalio.service import RPCError

from perdure_api import names
from perdure_api.slots import SlotsUnreadable, read_slots
from perdure_control.backlog import ACTIVITY, WORKFLOW, read_backlog
from perdure_control.cluster import PODS, Cluster, ClusterError
from perdure_scaler.demand import Known, Queue, Readings, Unknown
from perdure_scaler.settings import ScaledQueue, TaskType

READ_EVERY_SECONDS: Final = 5.0
"""Temporal counts anew every 5 s: asking more often tells nothing new."""
_ANSWER_SECONDS: Final = 5.0
_TYPES: Final[Mapping[TaskType, TaskQueueType.ValueType]] = {
    TaskType.WORKFLOW: WORKFLOW,
    TaskType.ACTIVITY: ACTIVITY,
}

log = structlog.get_logger(__name__)


class DemandReader:
    """What the task queues demand, by what was read last. Two of these beside each other come to the same."""

    def __init__(
        self,
        client: Client,
        cluster: Cluster,
        queues: Sequence[ScaledQueue],
        *,
        namespace: str,
        workers: str,
        temporal_namespace: str,
        hold_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Reads nothing yet.

        Args:
            client: To Temporal; each queue names its own Temporal namespace.
            cluster: Where the workers' pods are.
            queues: The task queues whose demand is told.
            namespace: Of the workers' pods.
            workers: Label selector of the workers' pods.
            temporal_namespace: Of the task queues of a worker that does not say.
            hold_seconds: How long what was read last counts when nothing newer can be read.
            clock: Seconds, only going on.
        """
        self.queues = tuple(queues)
        self._client = client
        self._cluster = cluster
        self._namespace = namespace
        self._workers = workers
        self._temporal_namespace = temporal_namespace
        self._hold_seconds = hold_seconds
        self._clock = clock
        self._readings = {scaled.queue: Readings() for scaled in queues}

    def demand(self, queue: Queue) -> Known | Unknown:
        """What one of the task queues demands now."""
        return self._readings[queue].demand(self._clock(), self._hold_seconds)

    def temporal_problem(self) -> str | None:
        """Why backlogs are not read; None when they are."""
        return _first_problem(readings.backlog.problem for readings in self._readings.values())

    def pods_problem(self) -> str | None:
        """Why slots in use are not read; None when they are."""
        return _first_problem(readings.slots.problem for readings in self._readings.values())

    def use(self, client: Client) -> None:
        """Takes another client from now on; calls that are under way end on the one before."""
        self._client = client

    async def read_for_ever(self) -> None:
        """Never returns; end it by cancelling."""
        async with asyncio.TaskGroup() as group:
            group.create_task(_over_and_over(self.read_slots))
            for scaled in self.queues:
                group.create_task(_over_and_over(partial(self.read_backlog, scaled)))

    async def read_backlog(self, scaled: ScaledQueue) -> None:
        """Asks Temporal for the backlog of one task queue: all its versions, partitions and priorities."""
        readings = self._readings[scaled.queue]
        try:
            # The call's own timeout does not count while the SDK connects anew.
            async with asyncio.timeout(_ANSWER_SECONDS):
                counts = [await self._backlog(scaled.queue, type_) for type_ in scaled.types]
                for name in scaled.guarded:
                    counts.append(await self._backlog(replace(scaled.queue, name=name), TaskType.ACTIVITY))  # noqa: PERF401 - one after the other
        except TimeoutError:
            backlog = readings.backlog.failed(f"no answer from Temporal within {_ANSWER_SECONDS:.0f} s")
        except (RPCError, RuntimeError) as error:
            backlog = readings.backlog.failed(f"no answer from Temporal: {error}")
        else:
            backlog = readings.backlog.read_again(sum(counts), self._clock())
        _tell_news("backlog", scaled.queue, readings.backlog.problem, backlog.problem)
        self._readings[scaled.queue] = replace(self._readings[scaled.queue], backlog=backlog)

    async def _backlog(self, queue: Queue, type_: TaskType) -> int:
        limit = timedelta(seconds=_ANSWER_SECONDS)
        found = await read_backlog(self._client, queue.temporal_namespace, queue.name, _TYPES[type_], limit)
        return found.count

    async def read_slots(self) -> None:
        """Sums what the workers' pods say."""
        problem, used = None, Counter[Queue]()
        try:
            pods = await self._cluster.get(
                # From the API server's memory: a few seconds old at most, and no burden for etcd.
                PODS.path(self._namespace),
                labelSelector=self._workers,
                resourceVersion="0",
            )
            for pod in pods.get("items") or []:
                used.update(slots_of(pod, self._temporal_namespace))
        except ClusterError as error:
            problem = f"no list of pods: {error.message}"
        except SlotsUnreadable as error:
            problem = str(error)
        for queue, readings in self._readings.items():
            slots = readings.slots.failed(problem) if problem else readings.slots.read(used[queue], self._clock())
            _tell_news("slots", queue, readings.slots.problem, slots.problem)
            self._readings[queue] = replace(readings, slots=slots)


def slots_of(pod: Mapping[str, Any], temporal_namespace: str) -> dict[Queue, int]:
    """The slots in use on a worker's pod, by task queue; none while no container of it runs.

    Raises:
        SlotsUnreadable: its annotation is none that a worker writes.
    """
    metadata = pod["metadata"]
    annotations = metadata.get("annotations") or {}
    containers = (pod.get("status") or {}).get("containerStatuses") or []
    text = annotations.get(names.ANNOTATION_SLOTS_USED)
    # What one said that has ended stays on its pod until the next one starts.
    if text is None or not any("running" in (container.get("state") or {}) for container in containers):
        return {}
    namespace = annotations.get(names.ANNOTATION_TEMPORAL_NAMESPACE) or temporal_namespace
    try:
        return {Queue(namespace, name): count for name, count in read_slots(text).items()}
    except SlotsUnreadable as error:
        raise SlotsUnreadable(f"annotation {names.ANNOTATION_SLOTS_USED} of pod {metadata['name']}: {error}") from error


def _first_problem(problems: Any) -> str | None:
    return next((problem for problem in problems if problem), None)


def _tell_news(what: str, queue: Queue, before: str | None, after: str | None) -> None:
    if after and after != before:
        log.warning("not_read", what=what, queue=queue.name, temporal_namespace=queue.temporal_namespace, why=after)
    elif before and not after:
        log.info("read", what=what, queue=queue.name, temporal_namespace=queue.temporal_namespace)


async def _over_and_over(read: Callable[[], Awaitable[None]]) -> None:
    while True:
        await read()
        await asyncio.sleep(READ_EVERY_SECONDS)
