"""Room for the nodes that an attempt lacks: asked for while it runs, and held until it makes use of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog
from temporalio import activity

from perdure_api import names
from perdure_control.cluster import JOBS, Cluster, Conflict
from perdure_workers.activities.adoption import adopted
from perdure_workers.activities.waiting import next_look
from perdure_workers.manifests import PodDefaults, reservation
from perdure_workers.messages import ActivityName, AwaitRoom
from perdure_workers.watching.facts import AttemptKey
from perdure_workers.watching.index import AttemptIndex, Watcher

_LOOK_SECONDS: Final = 20.0
"""Between two looks without news; each look is a heartbeat."""

log = structlog.get_logger(__name__)


class RoomActivities:
    """Holds places by pods that do nothing: the scheduler knows best when there is room, and for whom."""

    def __init__(self, cluster: Cluster, index: AttemptIndex, defaults: Callable[[], PodDefaults]) -> None:
        self._cluster = cluster
        self._index = index
        self._defaults = defaults

    @activity.defn(name=ActivityName.AWAIT_ROOM)
    async def await_room(self, request: AwaitRoom) -> None:
        """Returns when every missing node has a place, which is held until clean-up takes the reservation away.

        Nothing is asked for before the attempt has its own places: it would compete with itself. When the attempt has
        ended there is nothing to hold places for, and nothing more to tell: whoever waits does so no longer.
        """
        attempt, room = (
            AttemptKey(request.job.namespace, request.job.uid, number)
            for number in (request.attempt, names.RESERVATION)
        )
        stop = asyncio.create_task(activity.wait_for_worker_shutdown())
        try:
            with self._index.watching(attempt) as of_attempt, self._index.watching(room) as of_room:
                await self._until(lambda: self._placed(attempt) >= request.spec.nodes, of_attempt, stop)
                reservation_uid = await self._reserve(request)
                await self._until(
                    lambda: self._placed(room) >= request.missing or not self._placed(attempt), of_room, stop
                )
                if not self._placed(attempt):
                    await self._release(request, reservation_uid)
                    await self._until(lambda: False, of_room, stop)
        finally:
            stop.cancel()
        log.info("room_found", nodes=request.missing)

    async def _until(self, holds: Callable[[], bool], watcher: Watcher, stop: asyncio.Task[None]) -> None:
        while True:
            news = watcher.next_news()
            if holds():
                return
            activity.heartbeat()
            await next_look(news, stop, _LOOK_SECONDS)

    def _placed(self, key: AttemptKey) -> int:
        """How many pods of an attempt have a place, and may run there."""
        pods = self._index.view(key).pods
        return sum(pod.node is not None and not (pod.ended or pod.deleting) for pod in pods)

    async def _reserve(self, request: AwaitRoom) -> str:
        """The uid of the reservation.

        Raises:
            NotUsable: a Job of its name is not ours. Temporal tries again, and the attempt goes on meanwhile.
        """
        job = request.job
        manifest = reservation(job, request.spec, request.missing, self._defaults())
        path, name = JOBS.path(job.namespace), manifest["metadata"]["name"]
        try:
            created = await self._cluster.create(path, manifest, fieldManager=names.FIELD_MANAGER_WORKFLOW)
        except Conflict:
            return await adopted(self._cluster, job, name, names.RESERVATION)
        uid: str = created["metadata"]["uid"]
        return uid

    async def _release(self, request: AwaitRoom, uid: str) -> None:
        job = request.job
        try:
            await self._cluster.delete(JOBS.path(job.namespace, names.job_name(job.name, names.RESERVATION)), uid=uid)
        except Conflict:
            log.info("reservation_was_gone")  # and another one, of its name, is not this one's to delete
