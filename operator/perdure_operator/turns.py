"""The one place where slots are given.

Reconciling says of each object what it has to do with slots; a change of that has the whole line looked at, once for
however many changes come together. What a look finds is written on the tracked objects, and those that it concerns
are reconciled.
"""

from __future__ import annotations

import asyncio
from typing import Final

from perdure_operator.admission import Claim, Limits, Place, Slot, Turn, claim_of, plan, slot_of
from perdure_operator.decision import place_is_news
from perdure_operator.queue import ReconcileQueue
from perdure_operator.tracker import Tracked, Tracker

_PAUSE_SECONDS: Final = 0.2
"""Between two looks at the line: one costs about ten microseconds an object."""


class Turns:
    """Gives slots to those whose turn it is.

    None before all objects are known: those that a restarted operator hears of last may be the ones that run.
    """

    def __init__(self, limits: Limits, tracker: Tracker, queue: ReconcileQueue) -> None:
        self._limits = limits
        self._tracker = tracker
        self._queue = queue
        self._changed = asyncio.Event()
        self._open = False
        self._claims: dict[str, Claim] = {}

    def note(self, tracked: Tracked) -> None:
        """Takes in how an object stands now."""
        seen, uid = tracked.seen, tracked.seen.job.uid
        slot = Slot.NONE if tracked.gone else slot_of(seen, given=tracked.slot_given, asleep=tracked.asleep)
        if slot is Slot.WANTED and self._limits.unlimited:
            slot = Slot.HELD
        if slot is not Slot.WANTED:
            tracked.turn = Turn.COME
        elif tracked.slot is not Slot.WANTED:
            tracked.turn = Turn.UNKNOWN
        tracked.slot, tracked.slot_given = slot, slot is Slot.HELD
        claim = None if slot is Slot.NONE else claim_of(seen, slot)
        if claim == self._claims.get(uid):
            return
        if claim is None:
            del self._claims[uid]
        else:
            self._claims[uid] = claim
        self._changed.set()

    def open(self) -> None:
        """All objects are known."""
        if not self._open:
            self._open = True
            self._changed.set()

    async def run(self) -> None:
        """Gives slots for ever."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            self.give()
            await asyncio.sleep(_PAUSE_SECONDS)

    def give(self) -> None:
        """Gives the slots that are free, and has those reconciled that got one, or whose place is worth a word."""
        if not self._open or self._limits.unlimited:
            return
        for tracked in self._tracker:
            # As it is known by now: what freed a slot need not have been reconciled yet.
            self.note(tracked)
        planned = plan(self._claims.values(), self._limits)
        for uid in planned.admitted:
            self._give(uid)
        for uid, position in planned.positions.items():
            self._place(uid, position)
        self._changed.clear()

    def _give(self, uid: str) -> None:
        tracked = self._tracker.get(uid)
        if tracked is not None:
            tracked.slot_given = True
            self.note(tracked)
            self._queue.add(uid)

    def _place(self, uid: str, position: int) -> None:
        tracked = self._tracker.get(uid)
        if tracked is not None:
            place = Place(position, self._limits.sentence(tracked.seen.job.namespace))
            tracked.turn = place
            if place_is_news(tracked.seen, place):
                self._queue.add(uid)
