"""What `top` shows is read: workers and jobs by the cluster, backlogs by Temporal. Either may be away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Final, TypeVar

from temporalio.client import Client
from temporalio.service import RPCError

from perdure_cli.cluster import Cluster, Where, WorkerPod
from perdure_cli.errors import CliError
from perdure_cli.job import Job
from perdure_cli.temporal import Temporal, connect
from perdure_cli.top import Picture, Told, Waiting, told_by
from perdure_control.backlog import ACTIVITY, WORKFLOW, read_backlog

_ANSWER: Final = timedelta(seconds=5)
_AT_ONCE: Final = 8

Answer = TypeVar("Answer")


class Looking:
    """Looks at everything, over and over."""

    def __init__(self, where: Where, temporal: Temporal) -> None:
        self._where = where
        self._temporal = temporal
        self._cluster: Cluster | None = None
        self._client: Client | None = None
        self._threads = ThreadPoolExecutor(_AT_ONCE)

    async def look(self) -> Picture:
        """How everything is now; what cannot be known is left out, and said."""
        problems: list[str] = []
        told = await _unless(problems, self._told)
        waiting = await _unless(problems, partial(self._waiting, (told or Told()).queues))
        jobs = await _unless(problems, self._jobs)
        return Picture(told, waiting, jobs, tuple(dict.fromkeys(problems)))

    async def _told(self) -> Told:
        cluster = await self._the_cluster()
        pods = await self._in_thread(cluster.workers)
        pages = await asyncio.gather(*(self._page(cluster, pod) for pod in pods))
        silent = [pod.name for pod, page in zip(pods, pages, strict=True) if page is None]
        if silent and len(silent) == len(pods):
            raise CliError(f"none of {len(pods)} workers tells anything; may you get pods/proxy?")
        return told_by(page for page in pages if page is not None)

    async def _page(self, cluster: Cluster, pod: WorkerPod) -> str | None:
        try:
            return await self._in_thread(partial(cluster.metrics, pod))
        except CliError:
            return None  # it has just ended, or is about to begin

    async def _jobs(self) -> list[Job]:
        cluster = await self._the_cluster()
        return await self._in_thread(partial(cluster.jobs, everywhere=True))

    async def _waiting(self, queues: list[str]) -> dict[str, Waiting]:
        client = self._client = self._client or await connect(self._temporal)
        try:
            found = await asyncio.gather(*(_waiting_in(client, queue) for queue in queues))
        except (RPCError, RuntimeError) as error:
            raise CliError(f"Temporal does not tell what waits: {error}") from error
        return dict(zip(queues, found, strict=True))

    async def _the_cluster(self) -> Cluster:
        self._cluster = self._cluster or Cluster.connect(self._where)
        return self._cluster

    async def _in_thread(self, ask: Callable[[], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._threads, ask)


async def _waiting_in(client: Client, queue: str) -> Waiting:
    workflows, activities = await asyncio.gather(
        read_backlog(client, client.namespace, queue, WORKFLOW, _ANSWER),
        read_backlog(client, client.namespace, queue, ACTIVITY, _ANSWER),
    )
    return Waiting(workflows.count + activities.count, len(workflows.askers | activities.askers))


async def _unless(problems: list[str], ask: Callable[[], Awaitable[Answer]]) -> Answer | None:
    """The answer; None where there is none, and why is added to the problems."""
    try:
        return await ask()
    except CliError as error:
        problems.append(str(error))
        return None
