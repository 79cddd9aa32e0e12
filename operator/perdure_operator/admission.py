"""Who may run now, and who stands where in line: a pure function of who asks, who runs, and the limits.

A slot is what a job needs to run, and holds until no pod of it is left. There is one line where the cluster has a
limit, else one for each namespace that has one. Each point of priority is worth a day in line, so that nobody is
overtaken for ever. A namespace that is at its own limit holds nobody else up: its jobs are passed over.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final

from perdure_operator.observation import Observation

DAY_IN_LINE: Final = timedelta(days=1)
"""What a point of priority is worth."""
EXACT_POSITIONS: Final = 5
"""So many first ones are always told where they are."""


class Slot(Enum):
    """What one job has to do with slots."""

    NONE = "none"
    """It needs none: it is finished, suspended, or somebody else's to queue."""
    WANTED = "wanted"
    HELD = "held"


class Turn(Enum):
    """Whether a job may go on; where it may not yet, a Place says more."""

    COME = "come"
    """It may, or needs no slot for what it wants."""
    UNKNOWN = "unknown"
    """Nobody has looked yet."""


@dataclass(frozen=True)
class Place:
    """Where a job waits."""

    position: int
    """1: the next one."""
    limits: str
    """What it waits for, in a sentence for people."""


@dataclass(frozen=True)
class Limits:
    """How many jobs may run at a time; None: any number."""

    cluster: int | None = None
    namespace: int | None = None
    """In each namespace that has no limit of its own."""
    namespaces: Mapping[str, int] = field(default_factory=dict)
    """Limits of namespaces of their own."""

    @property
    def unlimited(self) -> bool:
        """Whether there is no limit at all."""
        return self.cluster is None and self.namespace is None and not self.namespaces

    def of(self, namespace: str) -> int | None:
        """The limit of one namespace."""
        return self.namespaces.get(namespace, self.namespace)

    def sentence(self, namespace: str) -> str:
        """All that limits the jobs of a namespace, for people, with the chart's values that say so."""
        setting = f"limits.namespaces.{namespace}" if namespace in self.namespaces else _EACH_NAMESPACE
        own = f"in namespace {namespace} ({setting})"
        if self.cluster is None:
            return f"at most {self.of(namespace)} run at a time {own}"
        whole = f"at most {self.cluster} run at a time (limits.maxConcurrentJobs)"
        return whole if self.of(namespace) is None else f"{whole}, {self.of(namespace)} {own}"


_NUMBERS: Final = re.compile(r"([0-9]+)")
_EACH_NAMESPACE: Final = "limits.maxConcurrentJobsPerNamespace"
_UNKNOWN_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Claim:
    """A job that holds a slot, or wants one."""

    uid: str
    namespace: str
    name: str
    priority: int
    created: datetime
    held: bool

    @property
    def rank(self) -> tuple[datetime, tuple[str | int, ...], str]:
        """Smaller ones go first.

        Creation times have whole seconds: within one the names decide, not chance, and run-2 goes before run-10.
        """
        numbers = tuple(int(part) if part.isdecimal() else part for part in _NUMBERS.split(self.name))
        return (self.created - self.priority * DAY_IN_LINE, numbers, self.uid)


@dataclass(frozen=True)
class Plan:
    """Who may go on now, and the positions of those who wait; both in the order of the line."""

    admitted: list[str]
    positions: dict[str, int]


def claim_of(seen: Observation, slot: Slot) -> Claim:
    """The claim of a job that holds a slot or wants one."""
    return Claim(
        uid=seen.job.uid,
        namespace=seen.job.namespace,
        name=seen.job.name,
        priority=seen.priority,
        created=seen.created or _UNKNOWN_TIME,
        held=slot is Slot.HELD,
    )


def slot_of(seen: Observation, *, given: bool, asleep: bool) -> Slot:
    """What a job has to do with slots.

    Args:
        seen: The object.
        given: This process has given it a slot, since it last needed none.
        asleep: This process has started its workflow as a suspended one, and it has not been let go on since.
    """
    if seen.terminal or seen.kueue_queue:
        return Slot.NONE
    if not seen.begun:
        if seen.deleting or seen.suspend:
            return Slot.NONE
        return Slot.HELD if given else Slot.WANTED
    if not (seen.suspended or asleep):
        # Its pods may run until it is finished, gone, or says that it is suspended.
        return Slot.HELD
    if seen.deleting or seen.suspend:
        return Slot.NONE
    return Slot.HELD if given or seen.resuming else Slot.WANTED


def plan(claims: Iterable[Claim], limits: Limits) -> Plan:
    """Who may go on now, and where the others stand."""
    claims = list(claims)
    room = _Room(limits, [claim for claim in claims if claim.held])
    admitted: list[str] = []
    positions: dict[str, int] = {}
    lengths: Counter[str] = Counter()
    for claim in _in_line(claims):
        if room.take(claim.namespace):
            admitted.append(claim.uid)
            continue
        line = "" if limits.cluster is not None else claim.namespace
        lengths[line] += 1
        positions[claim.uid] = lengths[line]
    return Plan(admitted, positions)


def worth_telling(told: int | None, position: int) -> bool:
    """Whether a position differs enough from the one that was told to be worth a write.

    Exact near the head; further back when it has become half or double: a job that enters a line of 500 is told some
    twelve times in all.
    """
    if told is None:
        return True
    if min(told, position) <= EXACT_POSITIONS:
        return told != position
    return position * 2 <= told or position >= told * 2


class _Room:
    """The slots that are free."""

    def __init__(self, limits: Limits, holders: list[Claim]) -> None:
        self._limits = limits
        self._held = len(holders)
        self._held_in = Counter(claim.namespace for claim in holders)

    def take(self, namespace: str) -> bool:
        """Whether there was a slot for a job of this namespace; it is taken then."""
        if _full(self._held, self._limits.cluster) or _full(self._held_in[namespace], self._limits.of(namespace)):
            return False
        self._held += 1
        self._held_in[namespace] += 1
        return True


def _full(held: int, limit: int | None) -> bool:
    return limit is not None and held >= limit


def _in_line(claims: list[Claim]) -> Iterator[Claim]:
    yield from sorted((claim for claim in claims if not claim.held), key=lambda claim: claim.rank)
