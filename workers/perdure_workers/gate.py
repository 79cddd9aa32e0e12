"""Slots of a Temporal worker that are handed out by a rule of one's own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from abc import abstractmethod
from typing import Final

from temporalio.worker import (
    CustomSlotSupplier,
    SlotMarkUsedContext,
    SlotPermit,
    SlotReleaseContext,
    SlotReserveContext,
)

LOOK_SECONDS: Final = 5.0
"""The rule is asked so often at least: what makes it give one more may wake nobody."""


class Gate(CustomSlotSupplier):
    """Who finds no slot waits until one is given back, or the rule may have changed.

    A slot is taken before a task is asked for, and given back when the task has ended, or none came.
    """

    def __init__(self) -> None:
        # The SDK's core calls from threads of its own.
        self._lock = threading.Lock()
        self._freed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit:
        """A slot, as soon as there is one to be had."""
        self._loop = asyncio.get_running_loop()
        while True:
            self._freed.clear()
            if permit := self._taken(ctx):
                return permit
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(self.seconds_to_change(), LOOK_SECONDS)):
                    await self._freed.wait()

    def try_reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit | None:
        """A slot, if there is one now."""
        return self._taken(ctx)

    def mark_slot_used(self, ctx: SlotMarkUsedContext) -> None:
        """Its task has come."""
        with self._lock:
            self.use(ctx.permit)

    def release_slot(self, ctx: SlotReleaseContext) -> None:
        """Its task has ended, or none came."""
        with self._lock:
            self.give_back(ctx.permit)
        if self._loop:
            with contextlib.suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._freed.set)

    def _taken(self, ctx: SlotReserveContext) -> SlotPermit | None:
        with self._lock:
            return self.take(ctx)

    @abstractmethod
    def take(self, ctx: SlotReserveContext) -> SlotPermit | None:
        """A slot, or None where the rule has none. One thread at a time, as for the others."""

    def use(self, permit: SlotPermit) -> None:
        """Takes note that a slot's task has come."""

    @abstractmethod
    def give_back(self, permit: SlotPermit) -> None:
        """Takes a slot back, which may be taken back twice."""

    def seconds_to_change(self) -> float:
        """How long the rule has nothing more for certain, unless a slot is given back."""
        return LOOK_SECONDS
