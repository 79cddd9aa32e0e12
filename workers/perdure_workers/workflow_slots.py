"""Slots of workflow tasks, so that jobs that end do not wait behind the hundreds that begin."""

from __future__ import annotations

from typing import Final

from temporalio.worker import SlotPermit, SlotReserveContext

from perdure_workers.gate import Gate

_STARTS_OF_SLOTS: Final = 2
"""One slot in so many may be for a workflow that is new here. Fewer would hold bursts up where the API is slow."""


class WorkflowSlots(Gate):
    """So many slots, of which only half are for workflows that are new to the worker: that begin, or come from another.

    In a burst all slots would else be taken by those that begin, which for each of them is the longest task, and what
    has ended would be told seconds later. The others' tasks are those of a sticky queue.
    """

    def __init__(self, slots: int) -> None:
        """None is taken.

        Args:
            slots: How many there are, at least 2.
        """
        super().__init__()
        self._slots = slots
        self._slots_of_new = max(1, slots // _STARTS_OF_SLOTS)
        self._new: set[SlotPermit] = set()
        self._known: set[SlotPermit] = set()

    def take(self, ctx: SlotReserveContext) -> SlotPermit | None:
        """See the base class."""
        if len(self._new) + len(self._known) >= self._slots:
            return None
        if not ctx.is_sticky and len(self._new) >= self._slots_of_new:
            return None
        permit = SlotPermit()
        (self._known if ctx.is_sticky else self._new).add(permit)
        return permit

    def give_back(self, permit: SlotPermit) -> None:
        """See the base class."""
        self._new.discard(permit)
        self._known.discard(permit)
