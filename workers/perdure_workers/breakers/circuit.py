"""A circuit breaker: decides by what was tried whether more is to be tried."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from perdure_control.factory.breaker import Breaker

_LONGER: Final = 2.0


class State(StrEnum):
    """How it is with a breaker."""

    CLOSED = "closed"
    """All goes through."""
    OPEN = "open"
    """Nothing goes through."""
    HALF_OPEN = "half-open"
    """One task goes through, to see."""


@dataclass(frozen=True)
class _Outcome:
    at: float
    failed: bool


class Circuit:
    """The breaker of one type of activity."""

    def __init__(self, breaker: Breaker, clock: Callable[[], float]) -> None:
        """Closed.

        Args:
            breaker: When it opens, and for how long.
            clock: Seconds, only going on.
        """
        self._breaker = breaker
        self._clock = clock
        self._outcomes: dict[Hashable, _Outcome] = {}
        self._opened_at: float | None = None
        """When it opened; None: it is closed."""
        self._paused_at = 0.0
        """When its present pause began."""
        self._pause_seconds = breaker.pause_seconds

    @property
    def state(self) -> State:
        """How it is now."""
        if self._opened_at is None:
            return State.CLOSED
        return State.OPEN if self.seconds_to_probe() > 0 else State.HALF_OPEN

    def seconds_to_probe(self) -> float:
        """How long nothing is let through; 0 when a probe may be, or all."""
        if self._opened_at is None:
            return 0.0
        return max(0.0, self._paused_at + self._pause_seconds - self._clock())

    def note(self, work: Hashable, began: float, *, failed: bool) -> None:
        """Learns what came of a try.

        Args:
            work: Which piece of work: of several tries of one only the newest counts, or a single input that cannot
                succeed would open it for all.
            began: When the try began, by the clock. One from before it opened says nothing of whether it may close.
            failed: How it ended.
        """
        now = self._clock()
        if self._opened_at is None:
            self._outcomes.pop(work, None)
            self._outcomes[work] = _Outcome(now, failed)
            if failed and self._too_many_failed(now):
                self._opened_at = self._paused_at = now
        elif began < self._opened_at:
            return
        elif failed:
            self._pause_longer(now)
        else:
            self._close()

    def _too_many_failed(self, now: float) -> bool:
        oldest = now - self._breaker.window_seconds
        self._outcomes = {work: outcome for work, outcome in self._outcomes.items() if outcome.at >= oldest}
        count, failed = len(self._outcomes), sum(outcome.failed for outcome in self._outcomes.values())
        return count >= self._breaker.least and failed >= self._breaker.failure_rate * count

    def _pause_longer(self, now: float) -> None:
        if self.state is State.HALF_OPEN:
            self._pause_seconds = min(self._pause_seconds * _LONGER, self._breaker.longest_pause_seconds)
        self._paused_at = now

    def _close(self) -> None:
        self._opened_at = None
        self._pause_seconds = self._breaker.pause_seconds
        self._outcomes.clear()
