"""How a deleted TrainingJob goes: its workflow ends, so do its checkpoints where that is wanted, and it is let go.

Nobody who deletes waits without being told for what, and a namespace that is being deleted hardly waits at all: what is
still to be done is then left to Temporal, or, while that is away, told to it when it is back.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from perdure_api.conditions import ConditionType, Reason
from perdure_api.workflow import JobRef
from perdure_operator import answers
from perdure_operator.services import Services
from perdure_operator.speaker import Speaker
from perdure_operator.tracker import Tracked
from perdure_operator.workflows import TemporalUnavailable

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_FIRST_POLL_SECONDS: Final = 0.1
_LONGEST_POLL_SECONDS: Final = 5.0
_POLLS_COUNTED: Final = 10
_NAMESPACE_STAYS_SECONDS: Final = 4.0
"""For so long an answer about a namespace holds for all objects in it."""


class Deletions:
    """Carries deletions through."""

    def __init__(self, services: Services, speaker: Speaker) -> None:
        self._objects = services.objects
        self._workflows = services.workflows
        self._queue = services.queue
        self._metrics = services.metrics
        self._address = services.temporal_address
        self._patience = services.patience
        self._now = services.now
        self._speaker = speaker
        self._stays_until: dict[str, float] = {}

    async def end(self, tracked: Tracked) -> None:
        """Goes on with the deletion of an object, and drops its finalizer when all is done.

        Raises:
            TemporalUnavailable: no answer.
            ClusterError: the API server is away or refuses.
        """
        now = asyncio.get_running_loop().time()
        if tracked.ending_since is None:
            tracked.ending_since = now
        if await self._workflow_has_ended(tracked, now) and await self._store_is_clean(tracked, now):
            await self._release(tracked, why="nothing is left to do")
        elif now - tracked.ending_since > self._patience.namespace_seconds and await self._namespace_ends(tracked):
            await self.let_go(tracked, why="its namespace is being deleted")
        else:
            pause = min(_FIRST_POLL_SECONDS * 2**tracked.polls, _LONGEST_POLL_SECONDS)
            self._queue.add_after(tracked.seen.job.uid, pause)
            tracked.polls = min(tracked.polls + 1, _POLLS_COUNTED)

    async def let_go(self, tracked: Tracked, *, why: str) -> None:
        """Drops the finalizer at once; what is still to be done is done without the object.

        Raises:
            ClusterError: the API server is away or refuses.
        """
        try:
            await self._hand_over(tracked)
        except TemporalUnavailable:
            tracked.owed = True
            log.warning("workflows_not_told_of_deletion")
        await self._release(tracked, why=why)

    async def wait_for_temporal(self, tracked: Tracked) -> None:
        """Says that the deletion waits for Temporal, unless it need not.

        Raises:
            ClusterError: the API server is away or refuses.
        """
        if not _says(tracked, answers.why_deletion_waits_for_temporal(tracked.seen, self._address)):
            # What a workflow has said meanwhile must not be overwritten with old news.
            seen = await self._objects.read(tracked.seen.job)
            if seen is None:
                return
            tracked.seen = seen
        if not tracked.seen.held:
            return
        if tracked.seen.terminal and tracked.seen.purge is None:
            await self._release(tracked, why="its workflow has said its last word, and Temporal is away")
        elif await self._namespace_ends(tracked):
            tracked.owed = True
            await self._release(tracked, why="its namespace is being deleted, and Temporal is away")
        else:
            message = answers.why_deletion_waits_for_temporal(tracked.seen, self._address)
            await self._say(tracked, Reason.TEMPORAL_UNAVAILABLE, message)
            self._queue.add_after(tracked.seen.job.uid, _LONGEST_POLL_SECONDS)

    async def bury(self, tracked: Tracked) -> None:
        """Sees to what an object leaves behind that is gone: because it was let go, or others took our finalizer off.

        Raises:
            TemporalUnavailable: no answer.
        """
        seen = tracked.seen
        ran = tracked.started or seen.taken_up
        unnoticed = ran and not tracked.released and (not seen.terminal or seen.purge is not None)
        if tracked.owed or unnoticed:
            await self._hand_over(tracked)
            log.warning("workflows_told_after_their_object_was_gone")

    async def _workflow_has_ended(self, tracked: Tracked, now: float) -> bool:
        job = tracked.seen.job
        if not (await self._workflows.standing(job)).open:
            return True
        if tracked.cancelled_at is None:
            await self._workflows.cancel(job)
            tracked.cancelled_at = now
            log.info("workflow_cancelled")
        elif self._is_slow(tracked.cancelled_at, now):
            note = answers.note_slow_end(tracked.seen, int(self._patience.slow_end_seconds))
            await self._speaker.tell_once(tracked, note)
        return False

    async def _store_is_clean(self, tracked: Tracked, now: float) -> bool:
        """Whether nothing is left in the store that is to go with the object."""
        seen = tracked.seen
        if seen.purge is None:
            # Whoever changes the policy while the deletion waits means it: also one that an earlier process began.
            await self._workflows.cancel_purge(seen.job)
            return True
        if tracked.purging_since is None:
            tracked.purging_since, tracked.polls = now, 0
        purge = await self._workflows.purge(seen.purge)
        if purge.problem:
            await self._say(tracked, purge.reason, answers.why_deletion_waits_for_store(seen, purge.problem))
        elif not purge.done and self._is_slow(tracked.purging_since, now):
            note = answers.note_slow_purge(seen, int(self._patience.slow_end_seconds))
            await self._speaker.tell_once(tracked, note)
        return purge.done

    async def _hand_over(self, tracked: Tracked) -> None:
        """Has Temporal do what is still to be done: nobody waits for it any more."""
        await self._workflows.cancel(tracked.seen.job)
        if tracked.seen.purge is not None:
            await self._workflows.start_purge(tracked.seen.purge)

    async def _release(self, tracked: Tracked, *, why: str) -> None:
        await self._objects.release(tracked.seen)
        tracked.released = True
        if tracked.cancelled_at is not None:
            waited = asyncio.get_running_loop().time() - tracked.cancelled_at
            self._metrics.finalizer_wait_seconds.observe(waited)
        log.info("finalizer_dropped", why=why)

    async def _say(self, tracked: Tracked, reason: Reason, message: str) -> None:
        """Says what the deletion waits for: in the status while it lasts, and once by an Event."""
        if not _says(tracked, message):
            status = answers.deletion_waits(tracked.seen, reason, message, self._now())
            await self._speaker.publish(tracked, status)
        await self._speaker.tell_once(tracked, answers.note_deletion_waits(reason, message))

    async def _namespace_ends(self, tracked: Tracked) -> bool:
        job: JobRef = tracked.seen.job
        now = asyncio.get_running_loop().time()
        if now < self._stays_until.get(job.namespace, now):
            return False
        if await self._objects.namespace_ends(job):
            return True
        self._stays_until[job.namespace] = now + _NAMESPACE_STAYS_SECONDS
        return False

    def _is_slow(self, since: float, now: float) -> bool:
        return now - since > self._patience.slow_end_seconds


def _says(tracked: Tracked, message: str) -> bool:
    said = tracked.seen.condition(ConditionType.RECONCILING)
    return said is not None and said.message == message
