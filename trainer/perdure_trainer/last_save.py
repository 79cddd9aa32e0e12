"""The last save of a process: of its last whole step, in the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from perdure_api.pod import GRACE_SECONDS
from perdure_trainer.checkpoints.repository import rank_of

if TYPE_CHECKING:
    from perdure_trainer.checkpoints.writer import CheckpointWriter
    from perdure_trainer.state import Snapshot

_log = structlog.get_logger()

LAST_SAVE_SECONDS: Final = GRACE_SECONDS - 5.0
"""What the last save may take after SIGTERM, with the one that was under way: a micro-step came before, and last words
come after."""
PEER_LOST_SAVE_SECONDS: Final = 8.0
"""What both may take when another rank is lost, with the wait for one's turn: all are to end within 30 s of it."""
TURN_SECONDS: Final = 3.0
"""How long a rank that outlives another leaves it to each rank before it to save the same: one may notice the loss two
seconds later than another."""
LAST_SAVE_TRIES: Final = 3


@dataclass(frozen=True)
class LastSave:
    """Saves the last whole step, unless that is saved already.

    Args:
        writer: With what.
        step: Which step it is.
        take: Gives its state.
        clock: Seconds.
    """

    writer: CheckpointWriter
    step: int
    take: Callable[[], Snapshot]
    clock: Callable[[], float] = time.monotonic

    def save(self, timeout_seconds: float | None) -> None:
        """Saves, as the one rank that does.

        Raises:
            Fenced: a newer attempt has begun.
            Diverged: the weights are no numbers any more.
        """
        self._save(timeout_seconds, self.writer.submit)

    def save_as_survivor(self, ranks_before_us: int) -> str:
        """Saves after another rank was lost, unless one of those before us does.

        Returns:
            What became of it, as a clause; empty where there was nothing to save. It raises nothing: what has failed is
            not why the attempt ends.
        """
        turn_at = self.clock() + ranks_before_us * TURN_SECONDS

        def submit(snapshot: Snapshot) -> None:
            self.writer.submit_in_turn(snapshot, turn_at - self.clock())

        failure = ""
        try:
            self._save(PEER_LOST_SAVE_SECONDS, submit)
        except Exception as error:  # noqa: BLE001 - whatever it is, the attempt ends because of the lost rank
            failure = str(error) or repr(error)
        if self.writer.committed_step < self.step:
            why = failure or self.writer.last_failure or f"{PEER_LOST_SAVE_SECONDS:.0f} s were not enough"
            _log.warning("last_step_not_saved", step=self.step, message=why)
            return f"step {self.step} is not saved: {why}"
        saved = self.writer.newest
        return f"rank {rank_of(saved)} saved step {saved.step}" if saved else ""

    def _save(self, timeout_seconds: float | None, submit: Callable[[Snapshot], None]) -> None:
        deadline = None if timeout_seconds is None else self.clock() + timeout_seconds
        while self.writer.collect(self._until(deadline)) and self.writer.step < self.step:
            if self._until(deadline) == 0 or self.writer.failures >= LAST_SAVE_TRIES:
                return
            submit(self.take())

    def _until(self, deadline: float | None) -> float | None:
        """Seconds that are left, never below 0; None without a deadline."""
        return None if deadline is None else max(0.0, deadline - self.clock())
