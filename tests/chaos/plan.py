"""What will be done to the cluster, and when, and which jobs are asked for: all from one seed."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class FaultPlan:
    """How often a kind of fault comes, beside others, and how long it lasts."""

    weight: int
    hold_seconds: tuple[float, float] = (0.0, 0.0)
    """Shortest and longest."""


@dataclass(frozen=True)
class Planned:
    """One fault."""

    number: int
    fault: str
    hold_seconds: float
    pause_seconds: float
    """After it is mended, before the next of its lane."""
    seed: str
    """For what is only known when it comes: which pod, which node."""


@dataclass(frozen=True)
class Asked:
    """One job."""

    name: str
    kind: str
    seed: str


def plan_faults(
    seed: str, seconds: float, faults: Mapping[str, FaultPlan], pauses: tuple[float, float]
) -> list[Planned]:
    """One lane of faults, one after another, until the time is over if each took no longer than it holds.

    Args:
        seed: The same seed, the same plan.
        seconds: How long it goes on.
        faults: The kinds.
        pauses: Shortest and longest pause between two, in seconds.
    """
    draw = random.Random(f"faults {seed}")
    planned: list[Planned] = []
    used = 0.0
    while used < seconds:
        name = _pick(draw, {name: plan.weight for name, plan in faults.items()})
        hold, pause = draw.uniform(*faults[name].hold_seconds), draw.uniform(*pauses)
        number = len(planned) + 1
        planned.append(Planned(number, name, round(hold, 1), round(pause, 1), f"{seed} {number}"))
        used += hold + pause
    return planned


def plan_jobs(seed: str, count: int, weights: Mapping[str, int]) -> list[Asked]:
    """Jobs in the order in which they are asked for. Every kind comes at least once, where there are enough."""
    draw = random.Random(f"jobs {seed}")
    kinds = [*weights, *(_pick(draw, weights) for _ in range(count))][:count]
    draw.shuffle(kinds)
    return [Asked(f"{kind}-{number}", kind, f"{seed} {number}") for number, kind in enumerate(kinds, 1)]


def _pick(draw: random.Random, weights: Mapping[str, int]) -> str:
    return draw.choices(list(weights), list(weights.values()))[0]


def choose(draw: random.Random, candidates: Sequence[T]) -> T | None:
    """One of some; None of none."""
    return draw.choice(candidates) if candidates else None
