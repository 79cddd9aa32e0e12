"""An attempt that runs and makes no progress: found, and ended."""

from __future__ import annotations

import time
from collections.abc import Callable
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
ASK_EVERY: Final = 0.25
"""Of the time that an attempt may be silent: so often the status is read while nothing is heard here."""

log = structlog.get_logger(__name__)


class Silence:
    """For how long nothing new was seen, by a clock of this process: the times in what is told are other machines'."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: dict[str, object] = {}
        self._since = clock()

    @property
    def seconds(self) -> float:
        """Since something was last seen that was not there before."""
        return self._clock() - self._since

    def see(self, source: str, told: object) -> None:
        """Looks at what a source tells now; what it tells when it is first looked at is new."""
        if source not in self._seen or self._seen[source] != told:
            self._seen[source] = told
            self._since = self._clock()


class HangWatch:
    """Looks whether an attempt makes progress, and ends one that makes none.

    A successor of the same attempt begins to count anew, for it may have missed what was told before.
    """

    def __init__(
        self,
        cluster: Cluster,
        index: AttemptIndex,
        board: ProgressBoard,
        request: Monitor,
        note: MonitorNote,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._index = index
        self._board = board
        self._request = request
        self._clock = clock
        self._silence = Silence(clock)
        self._asked_at: float | None = None
        """When the status was last read."""
        self._ended_at = clock() if note.hung else None
        self.why = note.hung
        """What was seen of an attempt that hung; "" of one that did not."""

    @property
    def cannot_be_ended(self) -> bool:
        """Whether it was told to end so long ago that its node does not answer."""
        return self._ended_at is not None and self._clock() - self._ended_at > HUNG_SECONDS

    async def look(self, key: AttemptKey) -> None:
        """Ends an attempt that runs, when it has told nothing new for too long."""
        limit = self._request.progress_seconds
        if limit is None or self._ended_at is not None:
            return
        told = self._board.get(key)
        self._silence.see("board", _moment(told.progress if told else None))
        # What nobody could be asked about may have been of progress.
        self._silence.see("deaf", self._board.deaf_at)
        if self._silence.seconds < limit:
            self.why = ""  # of an attempt that could not be ended before it made progress again
        if not self._must_ask(limit):
            return
        try:
            # Another worker may have heard of it.
            shown = await read_status(self._cluster, self._request.job)
        except ClusterError:
            return
        self._asked_at = self._clock()
        progress = shown.progress if shown else None
        self._silence.see("status", _moment(progress))
        if self._silence.seconds < limit:
            return
        reached = f" since step {progress.step}" if progress and progress.step else ""
        await self._end(key, f"no progress for {limit:.0f} s{reached}, so it was ended")

    def _must_ask(self, limit: float) -> bool:
        """Whether the status is to be read: as long as nothing is heard here, often enough to see when it changes."""
        if self._asked_at is None or self._silence.seconds >= limit:
            return True
        return min(self._silence.seconds, self._clock() - self._asked_at) >= limit * ASK_EVERY

    async def _end(self, key: AttemptKey, why: str) -> None:
        """Deletes the Job: its pods get SIGTERM, and say where they are."""
        job = self._index.view(key).job
        if job is None:
            return
        # Before: an answer that is lost does not tell whether it was done.
        self.why = why
        try:
            await self._cluster.delete(JOBS.path(job.namespace, job.name), uid=job.uid)
        except NotFound:
            log.info("job_of_hung_attempt_was_gone")
        except ClusterError as error:
            log.warning("hung_attempt_not_ended", error=error.message)
            return
        self._ended_at = self._clock()
        log.warning("attempt_hangs", attempt=self._request.attempt, why=why)


def _moment(progress: ProgressStatus | None) -> tuple[int | None, str | None]:
    """By what one report of progress is told from the next."""
    return (progress.step, progress.last_updated) if progress else (None, None)
