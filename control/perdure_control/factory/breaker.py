"""When the activities of a workflow are held back, because what they lean on is away."""

from __future__ import annotations

from dataclasses import dataclass

from perdure_control.factory.errors import EntryError


@dataclass(frozen=True, kw_only=True)
class Breaker:
    """Of each type of activity by itself, and of each worker by itself.

    Raises:
        EntryError: it could never open, or never close.
    """

    failure_rate: float = 0.5
    """Opens when this share of the work that was tried within the window failed, 0 < rate <= 1."""
    least: int = 5
    """Pieces of work that must have been tried within it: one that fails again and again is one."""
    window_seconds: float = 60.0
    pause_seconds: float = 30.0
    """After which one task is let through as a probe. Doubled each time that a probe fails."""
    longest_pause_seconds: float = 300.0

    def __post_init__(self) -> None:
        """Finds what would else be noticed when it is needed."""
        if not 0 < self.failure_rate <= 1:
            raise EntryError(f"a breaker's failure_rate is {self.failure_rate}; expected a share above 0, at most 1")
        if self.least < 1:
            raise EntryError(f"a breaker's least is {self.least}; expected 1 or more pieces of work")
        if not self.window_seconds > 0 or not 0 < self.pause_seconds <= self.longest_pause_seconds:
            raise EntryError(
                f"a breaker has a window of {self.window_seconds:g} s and pauses from {self.pause_seconds:g} to "
                f"{self.longest_pause_seconds:g} s; expected more than 0 s, and the longest pause to be no shorter"
            )
