"""Slots of a worker that asks for no tasks while its breaker is open: they wait in their queue."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Final

from temporalio.worker import (
    CustomSlotSupplier,
    SlotMarkUsedContext,
    SlotPermit,
    SlotReleaseContext,
    SlotReserveContext,
)

from perdure_workers.breakers.circuit import Circuit, State

_LOOK_SECONDS: Final = 5.0
"""The clock is looked at so often at least: a breaker that closes wakes nobody by itself."""


class GuardedSlots(CustomSlotSupplier):
    """So many slots, and none while the breaker is open; one at a time while it is half-open.

    A slot is taken before a task is asked for. The worker must have one poller: what it has asked for when the breaker
    opens cannot be taken back, and the task that then comes is the first probe.
    """

    def __init__(self, circuit: Circuit, slots: int) -> None:
        self._circuit = circuit
        self._slots = slots
        # The SDK's core calls from threads of its own.
        self._lock = threading.Lock()
        self._taken: set[SlotPermit] = set()
        self._asking: set[SlotPermit] = set()
        """Slots that wait for a task."""
        self._probes: set[SlotPermit] = set()
        """Slots that were, or began to work, since the breaker opened."""
        self._freed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit:  # noqa: ARG002 - see the base class
        """A slot, as soon as there is one to be had."""
        self._loop = asyncio.get_running_loop()
        while True:
            self._freed.clear()
            if permit := self._take():
                return permit
            seconds = self._circuit.seconds_to_probe() or _LOOK_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(seconds, _LOOK_SECONDS)):
                    await self._freed.wait()

    def try_reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit | None:  # noqa: ARG002 - as above
        """None: tasks that come without being asked for would go around the breaker."""
        return None

    def mark_slot_used(self, ctx: SlotMarkUsedContext) -> None:
        """Its task has come."""
        with self._lock:
            self._asking.discard(ctx.permit)
            if self._circuit.state is not State.CLOSED:
                self._probes.add(ctx.permit)

    def release_slot(self, ctx: SlotReleaseContext) -> None:
        """Its task has ended, or none came."""
        with self._lock:
            for permits in (self._taken, self._asking, self._probes):
                permits.discard(ctx.permit)
        if self._loop:
            with contextlib.suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._freed.set)

    def _take(self) -> SlotPermit | None:
        with self._lock:
            if len(self._taken) >= self._slots:
                return None
            if self._circuit.state is State.CLOSED:
                self._probes.clear()
            elif self._circuit.state is State.OPEN or self._probes or self._asking:
                return None
            permit = SlotPermit()
            self._taken.add(permit)
            self._asking.add(permit)
            return permit
