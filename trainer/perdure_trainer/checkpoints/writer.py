"""Saves in the background: the training thread only hands over a snapshot."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Final

import structlog

from perdure_data.errors import StoreError
from perdure_trainer.failures import Diverged

if TYPE_CHECKING:
    from perdure_api.pod import CheckpointRef
    from perdure_trainer.checkpoints.repository import Repository
    from perdure_trainer.state import Snapshot

_log = structlog.get_logger()


ADVICE: Final = "Lower training.learningRate, or raise warmupSteps"
"""What to do about weights that grow without end."""
RETRY_SECONDS: Final = 5.0
"""A failed save is taken again after this time, from the state as it is then."""
_LOOK_SECONDS: Final = 0.5
"""Between two looks whether another rank has saved."""


class CheckpointWriter:
    """At most one save at a time. A save that fails is told and counted, and never stops training.

    Args:
        repository: Where to.
        from_step: The step that training goes on from.
        from_checkpoint: URI of the checkpoint of that step; None at the beginning.
        on_failure: Is told why a save failed, and how many have in a row.
        clock: Seconds.
    """

    def __init__(
        self,
        repository: Repository,
        from_step: int,
        from_checkpoint: str | None = None,
        on_failure: Callable[[str, int], None] = lambda *_: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._repository = repository
        self._from_checkpoint = from_checkpoint
        self._on_failure = on_failure
        self._clock = clock
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._running: Future[CheckpointRef] | None = None
        self.committed_step = from_step
        """The newest step that is saved."""
        self._rest_until = -math.inf
        self.step = from_step
        """The newest step that is saved, or is about to be."""
        self.newest: CheckpointRef | None = None
        """The newest checkpoint that this attempt committed, as far as this rank knows."""
        self.failures = 0
        """Saves that failed, in a row."""
        self.last_failure = ""
        """Why the last of them did; empty where there is none."""

    @property
    def ready(self) -> bool:
        """Whether a save may begin: none is under way, and none has just failed."""
        return self._running is None and self._clock() >= self._rest_until

    @property
    def last_good(self) -> str:
        """A clause on what a next attempt can go on from."""
        place = self.newest.uri if self.newest else self._from_checkpoint
        return f"the last good checkpoint is {place}" if place else "there is no checkpoint yet"

    def submit(self, snapshot: Snapshot) -> None:
        """Begins a save. The one before must have been collected."""
        self.step = snapshot.position.step
        self._running = self._pool.submit(self._save, snapshot)

    def submit_in_turn(self, snapshot: Snapshot, turn_seconds: float) -> None:
        """Begins a save that is not needed where another rank makes it: after this time, unless one has by then.

        It deletes nothing: another may be at work in the same attempt, and the next one tidies up.
        """
        self.step = snapshot.position.step
        self._running = self._pool.submit(self._save_in_turn, snapshot, self._clock() + turn_seconds)

    def collect(self, timeout_seconds: float | None = 0) -> bool:
        """Takes note of how the save under way has ended; whether none is under way any more.

        Raises:
            Fenced: a newer attempt has begun.
            Diverged: the weights that were to be saved are no numbers any more.
        """
        if self._running is None:
            return True
        try:
            self.newest = self._running.result(timeout_seconds)
            self.committed_step, self.failures, self.last_failure = self.newest.step, 0, ""
        except FutureTimeoutError:
            return False
        except StoreError as error:
            self.failures += 1
            self.last_failure = str(error)
            self.step = self.committed_step
            self._rest_until = self._clock() + RETRY_SECONDS
            _log.warning("checkpoint_failed", message=str(error), failures=self.failures)
            self._on_failure(str(error), self.failures)
        self._running = None
        return True

    def _save(self, snapshot: Snapshot) -> CheckpointRef:
        reference = self._commit(snapshot)
        try:
            self._repository.prune()
        except StoreError as error:
            _log.warning("checkpoints_not_pruned", message=str(error))
        return reference

    def _save_in_turn(self, snapshot: Snapshot, begin_at: float) -> CheckpointRef:
        while True:
            if there := self._repository.saved_since(snapshot.position.step):
                return there
            if self._clock() >= begin_at:
                return self._commit(snapshot)
            time.sleep(_LOOK_SECONDS)

    def _commit(self, snapshot: Snapshot) -> CheckpointRef:
        if not snapshot.finite:
            step = snapshot.position.step
            raise Diverged(f"the adapter has weights that are no numbers after step {step}; {self.last_good}. {ADVICE}")
        reference = self._repository.save(snapshot)
        _log.info("checkpoint_committed", uri=reference.uri, step=reference.step)
        return reference
