"""Slots of a worker that asks for no tasks while its breaker is open: they wait in their queue."""

from __future__ import annotations

from temporalio.worker import SlotPermit, SlotReserveContext

from perdure_workers.breakers.circuit import Circuit, State
from perdure_workers.gate import LOOK_SECONDS, Gate


class GuardedSlots(Gate):
    """So many slots, and none while the breaker is open; one at a time while it is half-open.

    The worker must have one poller: what it has asked for when the breaker opens cannot be taken back, and the task
    that then comes is the first probe.
    """

    def __init__(self, circuit: Circuit, slots: int) -> None:
        super().__init__()
        self._circuit = circuit
        self._slots = slots
        self._taken_by: set[SlotPermit] = set()
        self._asking: set[SlotPermit] = set()
        """Slots that wait for a task."""
        self._probes: set[SlotPermit] = set()
        """Slots that were, or began to work, since the breaker opened."""

    def try_reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit | None:  # noqa: ARG002 - see the base class
        """None: tasks that come without being asked for would go around the breaker."""
        return None

    def take(self, ctx: SlotReserveContext) -> SlotPermit | None:  # noqa: ARG002 - as above
        """See the base class."""
        if len(self._taken_by) >= self._slots:
            return None
        if self._circuit.state is State.CLOSED:
            self._probes.clear()
        elif self._circuit.state is State.OPEN or self._probes or self._asking:
            return None
        permit = SlotPermit()
        self._taken_by.add(permit)
        self._asking.add(permit)
        return permit

    def use(self, permit: SlotPermit) -> None:
        """See the base class."""
        self._asking.discard(permit)
        if self._circuit.state is not State.CLOSED:
            self._probes.add(permit)

    def give_back(self, permit: SlotPermit) -> None:
        """See the base class."""
        for permits in (self._taken_by, self._asking, self._probes):
            permits.discard(permit)

    def seconds_to_change(self) -> float:
        """Until a probe may be: a breaker that closes wakes nobody by itself."""
        return self._circuit.seconds_to_probe() or LOOK_SECONDS
