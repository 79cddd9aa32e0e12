"""The demand of a task queue as a pure function of what was read, and when.

Demand is backlog plus slots in use. The backlog alone falls to zero as soon as workers have taken everything, and an
autoscaler that sees only it removes them while they work. What is not known is never told as 0 either: what was read
last counts for a while, and then the answer is that there is none, by which an autoscaler leaves everything as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

CONFIRMED_WITHIN_SECONDS: Final = 30.0
"""A reading is confirmed by another that came at most so long before it."""


@dataclass(frozen=True)
class Queue:
    """A task queue, wherever it is."""

    temporal_namespace: str
    name: str


@dataclass(frozen=True)
class Reading:
    """A number, and when it was read, in seconds of a clock that only goes on."""

    count: int
    at: float


@dataclass(frozen=True)
class Known:
    """What a task queue has to do."""

    backlog: int
    """Tasks that wait."""
    slots: int
    """Tasks that are being done."""

    @property
    def total(self) -> int:
        """The demand."""
        return self.backlog + self.slots


@dataclass(frozen=True)
class Unknown:
    """There is no telling."""

    why: str


@dataclass(frozen=True)
class Series:
    """What was read of one thing, one reading after another."""

    last: Reading | None = None
    """The newest one that is believed."""
    heard_at: float | None = None
    """When anything was read last, believed or not."""
    problem: str | None = "not read yet"
    """Why nothing newer was read; None when it was."""

    def read(self, count: int, now: float) -> Series:
        """The series with a reading that is right by itself."""
        return Series(Reading(max(count, 0), now), now, None)

    def read_again(self, count: int, now: float) -> Series:
        """The series with a reading that is believed only where another came shortly before.

        Temporal counts the tasks of a queue that nobody asked for lately from what it has in memory, which may be
        nothing yet: the first answer can say 0 where a thousand wait.
        """
        if self.heard_at is not None and now - self.heard_at <= CONFIRMED_WITHIN_SECONDS:
            return self.read(count, now)
        return Series(self.last, now, "read once, which a second reading has yet to confirm")

    def failed(self, problem: str) -> Series:
        """The series after a reading that came to nothing."""
        return replace(self, problem=problem)


@dataclass(frozen=True)
class Readings:
    """Everything that was read of one task queue."""

    backlog: Series = Series()
    slots: Series = Series()

    def demand(self, now: float, hold_seconds: float) -> Known | Unknown:
        """What the queue demands now.

        Args:
            now: Of the clock that the readings have their times from.
            hold_seconds: How long what was read last counts when nothing newer can be read.
        """
        backlog = _count(self.backlog, "Its backlog", now, hold_seconds)
        slots = _count(self.slots, "The slots in use", now, hold_seconds)
        match backlog, slots:
            case int(), int():
                return Known(backlog, slots)
            case _:
                return Unknown("; ".join(each for each in (backlog, slots) if isinstance(each, str)))


def _count(series: Series, what: str, now: float, hold_seconds: float) -> int | str:
    """The number, or why there is none."""
    if series.last is None:
        return f"{what}: {series.problem}"
    age = now - series.last.at
    if age > hold_seconds:
        return f"{what}: last read {age:.0f} s ago, which counts for {hold_seconds:.0f} s ({series.problem})"
    return series.last.count
