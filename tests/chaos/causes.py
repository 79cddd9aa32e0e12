"""What a fault explains: pure. A fault is over when it is mended, and what it did comes to light later."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.chaos.history import Deserved, Sight

COMES_TO_LIGHT_SECONDS: Final = 30.0
"""After its mending a node that was given up may still end pods: taints go one after another."""
ZOMBIE_SECONDS: Final = 60.0
"""After its mending a node may still run what was given up: a kubelet comes back, and its pods have 20 s to end."""
_BEFORE_SECONDS: Final = 5.0
"""An attempt's Job and the status that tells of it are written at the same time, by two."""


@dataclass(frozen=True)
class Spell:
    """A fault that lasted."""

    where: str
    """The node; "": unknown, or everywhere."""
    began: float
    """Monotonic seconds, as all times here."""
    ended: float

    def meets(self, began: float, ended: float, linger_seconds: float) -> bool:
        """Whether it, or what comes of it, falls into a time."""
        return self.began <= ended and began <= self.ended + linger_seconds

    def is_on(self, nodes: Collection[str]) -> bool:
        """Whether it may be on one of some nodes; none: nobody knows which."""
        return not nodes or not self.where or self.where in nodes


@dataclass(frozen=True)
class Overlap:
    """Processes of two attempts of one job at the same time."""

    job: str
    attempts: tuple[int, ...]
    seconds: float
    began: float = 0.0
    nodes: tuple[frozenset[str], ...] = ()
    """Of each attempt."""


def may_overlap(overlap: Overlap, node_spells: Sequence[Spell], *, built_in: bool) -> bool:
    """Whether attempts may run at the same time: ours beside what runs on, to no effect, on a node that was lost."""
    if not built_in:
        return False
    end = overlap.began + overlap.seconds
    return all(
        any(spell.is_on(nodes) and spell.meets(overlap.began, end, ZOMBIE_SECONDS) for spell in node_spells)
        for nodes in overlap.nodes[:-1]
    )


@dataclass(frozen=True)
class Faults:
    """What was done, in which an explanation is looked for."""

    touched: Mapping[str, Collection[int]]
    """By job: attempts of which a process was killed, or a pod or Job deleted."""
    node_spells: Sequence[Spell] = ()
    store_spells: Sequence[Spell] = ()


def explained(
    job: str, deserved: Deserved, sights: Sequence[Sight], nodes: Mapping[int, Collection[str]], faults: Faults
) -> set[int]:
    """Attempts of a job that a fault may have ended.

    Args:
        job: Its name.
        deserved: What it is.
        sights: Of it.
        nodes: On which each attempt was seen.
        faults: All.
    """
    found = set(faults.touched.get(job, ()))
    for number in range(1, sights[-1].started + 1 if sights else 1):
        began, ended = lived(number, sights)
        # Pods of ours need store and names too, which may be on the other node; of several, one may never have begun.
        on = () if deserved.built_in or deserved.nodes > 1 else nodes.get(number, ())
        spells = [spell for spell in faults.node_spells if spell.is_on(on)]
        if deserved.built_in:
            spells += faults.store_spells
        if any(spell.meets(began, ended, COMES_TO_LIGHT_SECONDS) for spell in spells):
            found.add(number)
    return found


def parted(
    deserved: Deserved, sights: Sequence[Sight], nodes: Mapping[int, Collection[str]], node_spells: Sequence[Spell]
) -> set[int]:
    """Attempts that may have run on when they counted no more: on a node that was lost."""
    found = set()
    for number in range(1, sights[-1].started + 1 if sights else 1):
        began, ended = lived(number, sights)
        on = () if deserved.nodes > 1 else nodes.get(number, ())
        if any(spell.is_on(on) and spell.meets(began, ended, ZOMBIE_SECONDS) for spell in node_spells):
            found.add(number)
    return found


def lived(number: int, sights: Sequence[Sight]) -> tuple[float, float]:
    """A time in which an attempt lies: from the last moment before it was told of until its end was."""
    before = [sight.at for sight in sights if sight.started < number]
    after = [sight.at for sight in sights if sight.attempts.get(number, {}).get("endTime") or sight.started > number]
    began = before[-1] if before else sights[0].at
    return began - _BEFORE_SECONDS, after[0] if after else sights[-1].at
