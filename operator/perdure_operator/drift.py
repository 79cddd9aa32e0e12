"""What no event tells: workflows that are gone while their objects wait, or fail, and watches that are dead.

All comparisons run now and then over everything, with jitter, and cost a handful of calls however many objects
there are. What they find is only looked at again: the reconciler decides.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from temporalio.service import RPCError

from perdure_control.cluster import ClusterError
from perdure_operator.observation import Observation
from perdure_operator.services import Services
from perdure_operator.tracker import Tracked
from perdure_operator.workflows import TemporalUnavailable

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_JITTER: Final = 0.2


@dataclass(frozen=True)
class Rhythm:
    """How often is compared, in seconds."""

    workflows_seconds: float = 60.0
    fresh_seconds: float = 30.0
    """A workflow started less long ago may not be in Temporal's visibility store yet."""
    workflows_at_a_time: int = 100
    """So many of them are looked at one by one each time."""
    watch_seconds: float = 120.0
    first_seconds: float = 0.5
    """The same while the process starts, when the watch has just listed everything itself."""
    settle_seconds: float = 10.0
    """How long the watch may take to tell what a listing already shows."""


class WorkflowDrift:
    """Compares the objects that should have a running workflow with the workflows that run."""

    def __init__(self, services: Services, rhythm: Rhythm) -> None:
        self._tracker = services.tracker
        self._workflows = services.workflows
        self._queue = services.queue
        self._metrics = services.metrics
        self._rhythm = rhythm

    async def run(self) -> None:
        """Compares for ever."""
        await repeat(self._rhythm.workflows_seconds, self.compare)

    async def compare(self) -> None:
        """Has every object looked at again whose workflow should run, but does not.

        Raises:
            TemporalUnavailable: no answer.
            RPCError: Temporal refuses the listing.
        """
        running = await self._workflows.running_ids()
        now = asyncio.get_running_loop().time()
        for tracked in self._tracker:
            if lacks_workflow(tracked, running, older_than=now - self._rhythm.fresh_seconds):
                # Only forget that it was started: starting again finds out what has become of it.
                tracked.started_at = None
                self._metrics.drift_repairs.labels(kind="workflow").inc()
                log.warning("workflow_not_running", workflow_id=tracked.seen.job.workflow_id)
                self._queue.add(tracked.seen.job.uid)


def lacks_workflow(tracked: Tracked, running: set[str], *, older_than: float) -> bool:
    """Whether an object that should have a running workflow has none.

    Args:
        tracked: The object.
        running: Ids of the running workflows.
        older_than: Starts after this time, by the loop's clock, are too fresh to judge.
    """
    if not _goes_on(tracked):
        return False
    if tracked.started_at is None or tracked.started_at > older_than:
        return False
    return tracked.seen.job.workflow_id not in running


class FailingWorkflows:
    """Looks whether the workflows' own code fails: Temporal tries such a task for ever, and tells nobody.

    One call each, so a few at a time, in turn.
    """

    def __init__(self, services: Services, rhythm: Rhythm) -> None:
        self._tracker = services.tracker
        self._workflows = services.workflows
        self._queue = services.queue
        self._rhythm = rhythm
        self._last = ""

    async def run(self) -> None:
        """Looks for ever."""
        await repeat(self._rhythm.workflows_seconds, self.look)

    async def look(self) -> None:
        """Looks at the next ones, and has those reconciled of which there is something to say.

        Raises:
            TemporalUnavailable: no answer.
            RPCError: Temporal refuses to describe one.
        """
        running = {each.seen.job.uid: each for each in self._tracker if each.started and _goes_on(each)}
        for uid in next_in_turn(list(running), self._last, self._rhythm.workflows_at_a_time):
            self._last = uid
            tracked = running[uid]
            tracked.failure = await self._workflows.failure(tracked.seen.job)
            if tracked.failure:
                log.error("workflow_failing", workflow_id=tracked.seen.job.workflow_id, problem=tracked.failure)
            if bool(tracked.failure) is not tracked.seen.says_that_it_fails:
                self._queue.add(uid)


def _goes_on(tracked: Tracked) -> bool:
    return not (tracked.gone or tracked.seen.terminal or tracked.seen.deleting)


def next_in_turn(keys: Sequence[str], last: str, count: int) -> list[str]:
    """So many of the keys: those that come after the last one, then the first ones."""
    in_order = sorted(keys)
    after = [key for key in in_order if key > last]
    return [*after, *in_order[: len(in_order) - len(after)]][:count]


class WatchDrift:
    """Compares what the watch has told with what a listing shows: the proof that the watch lives.

    A watch can fall silent with its connection open and its process healthy; kopf reconnects when bookmarks stay
    out, this notices whatever else may happen.
    """

    def __init__(self, services: Services, rhythm: Rhythm, namespaces: Sequence[str]) -> None:
        self._tracker = services.tracker
        self._objects = services.objects
        self._queue = services.queue
        self._turns = services.turns
        self._metrics = services.metrics
        self._rhythm = rhythm
        self._namespaces = namespaces
        self._complete_at: float | None = None
        self._missed = 0

    @property
    def complete(self) -> bool:
        """Whether the watch has at some time told everything that there was."""
        return self._complete_at is not None

    @property
    def problem(self) -> str | None:
        """What is wrong with the watch; None when nothing is known to be."""
        if not self._missed:
            return None
        return (
            f"the watch has not told of {self._missed} TrainingJobs that a listing shows, "
            f"{self._rhythm.settle_seconds:.0f} s and more after it; only a restart can mend it"
        )

    def seconds_ago(self) -> float | None:
        """How long ago the watch was last found complete."""
        return None if self._complete_at is None else asyncio.get_running_loop().time() - self._complete_at

    async def run(self) -> None:
        """Compares for ever; at first often, since readiness waits for it."""
        while not self.complete:
            await attempt(self.compare)
            await asyncio.sleep(self._rhythm.first_seconds)
        await repeat(self._rhythm.watch_seconds, self.compare)

    async def compare(self) -> None:
        """Lists everything, gives the watch time to tell the same, and notes whether it has.

        Raises:
            ClusterError: the API server is away or refuses.
        """
        known = {tracked.seen.job.uid for tracked in self._tracker}
        listed = [seen async for page in self._objects.all(self._namespaces) for seen in page]
        if not all(map(self._told, listed)):
            await asyncio.sleep(self._rhythm.settle_seconds if self.complete else self._rhythm.first_seconds)
        untold = await self._untold(listed)
        self._missed = len(untold) if self.complete else 0
        if not untold:
            self._complete_at = asyncio.get_running_loop().time()
            self._turns.open()
        elif self.complete:
            self._catch_up(untold)
        self._bury_missing(known - {seen.job.uid for seen in listed})

    async def _untold(self, listed: list[Observation]) -> list[Observation]:
        """What the watch has not told, as it is now. What was deleted since the listing is none of it."""
        now = [await self._objects.read(seen.job) for seen in listed if not self._told(seen)]
        return [seen for seen in now if seen is not None]

    def _told(self, seen: Observation) -> bool:
        tracked = self._tracker.get(seen.job.uid)
        # Versions of one object are ordered (Kubernetes 1.35, KEP-5504; in fact always with etcd).
        return tracked is not None and (tracked.gone or int(tracked.watched_version) >= int(seen.resource_version))

    def _catch_up(self, untold: list[Observation]) -> None:
        log.error("watch_missed_objects", count=len(untold), first=untold[0].job.workflow_id)
        for seen in untold:
            self._metrics.drift_repairs.labels(kind="watch").inc()
            self._tracker.see(seen)
            self._queue.add(seen.job.uid)

    def _bury_missing(self, uids: set[str]) -> None:
        """A watch that had to list again does not tell what was deleted in between (kopf relists after 410)."""
        for uid in uids:
            tracked = self._tracker.get(uid)
            if tracked is not None and not tracked.gone:
                tracked.gone = True
                self._queue.add(uid)


async def repeat(seconds: float, action: Callable[[], Awaitable[None]]) -> None:
    """Does something for ever, about every so many seconds: never in step with other processes."""
    while True:
        await asyncio.sleep(seconds * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311 - jitter, no secret
        await attempt(action)


async def attempt(action: Callable[[], Awaitable[None]]) -> None:
    """Does something that has another chance later."""
    try:
        await action()
    except (ClusterError, TemporalUnavailable, RPCError) as error:
        log.warning("comparison_failed", action=action.__qualname__, error=str(error))
