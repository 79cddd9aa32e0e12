"""Which objects are to be looked at, and when.

Keys, not events: however often an object changes, it is looked at once, with its newest state, and never by two
workers at the same time. What must wait (a failed try, a time to come) waits outside, and holds no worker.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_FIRST_RETRY_SECONDS: Final = 0.2
_LONGEST_RETRY_SECONDS: Final = 60.0
_LONGEST_WAIT_SECONDS: Final = 3600.0
"""A later look is taken in steps: looking once too often is cheap, and clocks are set now and then."""


class ReconcileQueue:
    """A queue of keys with delays, deduplication and retries.

    Args:
        workers: How many keys are looked at at a time.
    """

    def __init__(self, *, workers: int) -> None:
        self._workers = workers
        self._ready: asyncio.Queue[str] = asyncio.Queue()
        self._queued: set[str] = set()
        self._running: set[str] = set()
        self._again: set[str] = set()
        self._later: dict[str, asyncio.TimerHandle] = {}
        self._failures: Counter[str] = Counter()

    def __len__(self) -> int:
        """How many keys wait to be looked at now."""
        return len(self._queued) + len(self._again)

    def add(self, key: str) -> None:
        """Has a key looked at as soon as possible."""
        self._drop_timer(key)
        if key in self._running:
            # It may have read the old state already.
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._ready.put_nowait(key)

    def add_after(self, key: str, seconds: float) -> None:
        """Has a key looked at after a while, or earlier when something else asks for it."""
        loop = asyncio.get_running_loop()
        when = loop.time() + min(max(seconds, 0.0), _LONGEST_WAIT_SECONDS)
        timer = self._later.get(key)
        if timer is not None and timer.when() <= when:
            return
        self._drop_timer(key)
        self._later[key] = loop.call_at(when, self._due, key)

    def forget(self, key: str) -> None:
        """Drops what is planned for a key that is gone."""
        self._drop_timer(key)
        self._failures.pop(key, None)

    async def run(self, reconcile: Callable[[str], Awaitable[None]]) -> None:
        """Works for ever.

        Args:
            reconcile: Looks at one key; an exception puts the key back, later each time.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(self._workers):
                    tasks.create_task(self._work(reconcile))
        finally:
            for timer in self._later.values():
                timer.cancel()
            self._later.clear()

    async def _work(self, reconcile: Callable[[str], Awaitable[None]]) -> None:
        while True:
            key = await self._ready.get()
            self._queued.discard(key)
            self._running.add(key)
            try:
                await reconcile(key)
            except Exception:  # one object's trouble is not the others'
                self._failures[key] += 1
                delay = retry_delay_seconds(self._failures[key])
                log.exception("reconcile_failed", uid=key, failures=self._failures[key], retry_seconds=round(delay, 1))
                self.add_after(key, delay)
            else:
                self._failures.pop(key, None)
            finally:
                self._running.discard(key)
            if key in self._again:
                self._again.discard(key)
                self.add(key)

    def _due(self, key: str) -> None:
        self._later.pop(key, None)
        self.add(key)

    def _drop_timer(self, key: str) -> None:
        timer = self._later.pop(key, None)
        if timer is not None:
            timer.cancel()


def retry_delay_seconds(failures: int) -> float:
    """How long to wait after so many failures in a row: doubling, with jitter, up to a minute."""
    longest = min(_FIRST_RETRY_SECONDS * 2.0 ** min(failures - 1, 30), _LONGEST_RETRY_SECONDS)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret
