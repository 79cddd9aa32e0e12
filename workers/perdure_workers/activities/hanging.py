"""An attempt that runs and makes no progress: found, and ended."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime
from typing import Final

import structlog

from perdure_api.pod import GRACE_SECONDS
from perdure_api.status import ProgressStatus
from perdure_control.cluster import JOBS, Cluster, ClusterError, NotFound
from perdure_control.statuses import read_status
from perdure_workers.messages import Monitor, MonitorNote
from perdure_workers.progress.board import ProgressBoard
from perdure_workers.watching.facts import AttemptKey
from perdure_workers.watching.index import AttemptIndex

HUNG_SECONDS: Final = GRACE_SECONDS + 25.0
"""After this an attempt that hung, and whose Job is deleted, is on a node that does not answer."""

log = structlog.get_logger(__name__)


def silent_since(began: Iterable[float | None], told: Iterable[ProgressStatus | None]) -> float:
    """Since when nothing new is told, in Unix seconds.

    Args:
        began: Moments before which nothing can have been told: it did not run yet, or nobody could hear it.
        told: Progress, by whoever has heard of it.
    """
    moved = [each.last_updated for each in told if each and each.last_updated]
    return max([*(each for each in began if each), *(datetime.fromisoformat(each).timestamp() for each in moved)])


class HangWatch:
    """Looks whether an attempt makes progress, and ends one that makes none."""

    def __init__(
        self, cluster: Cluster, index: AttemptIndex, board: ProgressBoard, request: Monitor, note: MonitorNote
    ) -> None:
        self._cluster = cluster
        self._index = index
        self._board = board
        self._request = request
        self._listens_since = time.time()
        self._running_since = note.running_since
        self._ended_at = note.hung_since
        self.why = note.hung
        """What was seen of an attempt that hung; "" of one that did not."""

    def remembered(self, note: MonitorNote) -> MonitorNote:
        """The note with what a successor should know."""
        update = {"running_since": self._running_since, "hung_since": self._ended_at, "hung": self.why}
        return note.model_copy(update=update)

    @property
    def cannot_be_ended(self) -> bool:
        """Whether it was told to end so long ago that its node does not answer."""
        return self._ended_at is not None and time.time() - self._ended_at > HUNG_SECONDS

    async def look(self, key: AttemptKey) -> None:
        """Ends an attempt that runs, when it has told nothing new for too long."""
        limit = self._request.progress_seconds
        if limit is None or self.why:
            return
        self._running_since = self._running_since or time.time()
        if self._silent_seconds(key) < limit:
            return
        try:
            # Another worker may have heard of it.
            shown = await read_status(self._cluster, self._request.job)
        except ClusterError:
            return
        progress = shown.progress if shown else None
        if self._silent_seconds(key, progress) < limit:
            return
        reached = f" since step {progress.step}" if progress and progress.step else ""
        await self._end(key, f"no progress for {limit:.0f} s{reached}, so it was ended")

    def _silent_seconds(self, key: AttemptKey, shown: ProgressStatus | None = None) -> float:
        told = self._board.get(key)
        # A worker that has just begun to listen, or could not ask who speaks, may have missed what was told.
        began = (self._running_since, self._listens_since, self._board.deaf_at)
        return time.time() - silent_since(began, (told.progress if told else None, shown))

    async def _end(self, key: AttemptKey, why: str) -> None:
        """Deletes the Job: its pods get SIGTERM, and say where they are."""
        job = self._index.view(key).job
        if job is None:
            return
        try:
            await self._cluster.delete(JOBS.path(job.namespace, job.name), uid=job.uid)
        except NotFound:
            log.info("job_of_hung_attempt_was_gone")
        except ClusterError as error:
            log.warning("hung_attempt_not_ended", error=error.message)
            return
        self.why, self._ended_at = why, time.time()
        log.warning("attempt_hangs", attempt=self._request.attempt, why=why)
