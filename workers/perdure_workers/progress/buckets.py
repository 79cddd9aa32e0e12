"""How often somebody may do something."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Final

_MAX_BUCKETS: Final = 20_000


class Buckets:
    """A token bucket for each pod.

    Args:
        per_second: What it may do in the long run.
        at_once: What it may do after a rest.
        clock: Seconds.
    """

    def __init__(self, per_second: float, at_once: float, clock: Callable[[], float]) -> None:
        self._per_second = per_second
        self._at_once = at_once
        self._clock = clock
        self._filled: dict[str, tuple[float, float]] = defaultdict(lambda: (at_once, clock()))

    def take(self, pod_uid: str) -> bool:
        """Whether the pod may do it now."""
        if len(self._filled) > _MAX_BUCKETS:
            self._filled.clear()
        level, since = self._filled[pod_uid]
        now = self._clock()
        level = min(self._at_once, level + (now - since) * self._per_second)
        allowed = level >= 1
        self._filled[pod_uid] = (level - 1 if allowed else level, now)
        return allowed
