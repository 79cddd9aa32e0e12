"""What time it is, whatever the clock of this machine says."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime


class ServerClock:
    """Temporal's time: that at which it began this activity, and what has passed since.

    Deadlines of an attempt begin with a time of Temporal's. By a worker's own clock they would be too long or too short
    by as much as it is wrong, and end an attempt at once when it jumps.
    """

    def __init__(self, began: datetime, elapsed: Callable[[], float] = time.monotonic) -> None:
        self._began = began.timestamp()
        self._elapsed = elapsed
        self._since = elapsed()

    def now(self) -> float:
        """Unix seconds."""
        return self._began + self._elapsed() - self._since
