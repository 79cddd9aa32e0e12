"""What a load needs, by arithmetic: cores, processes, memory, requests."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bench.scale.costs import STATIONS, Costs

FILLED: Final = 0.6
"""How busy a core should be on the average: beyond that, lines grow faster than the load."""
ONE_CORE: Final = frozenset({"operator", "worker"})
"""Processes that compute on one core at a time (Python); the others use what there is."""
ALONE: Final = frozenset({"kube-controller-manager", "kube-scheduler", "etcd"})
"""Of which one works at a time, however many there are: of etcd the leader."""


@dataclass(frozen=True)
class Load:
    """What is asked of a cluster."""

    starts_per_minute: float
    running: int

    @property
    def running_seconds(self) -> float:
        """How long each job runs when so many run and so many start (Little's law)."""
        return 60 * self.running / self.starts_per_minute


@dataclass(frozen=True)
class Need:
    """Of one station."""

    cores: float
    """That are busy on the average."""
    processes: int
    """That there should be, each not busier than FILLED; of those that use many cores: one."""
    bytes_: float
    """Memory of all its processes."""

    @property
    def cores_to_order(self) -> int:
        """So many that none is busier than FILLED."""
        return max(1, math.ceil(self.cores / FILLED))


def needs(costs: Costs, load: Load) -> dict[str, Need]:
    """By station."""
    found = {}
    for name in STATIONS:
        cores = busy(costs, load)[name]
        processes = max(1, math.ceil(cores / FILLED)) if name in ONE_CORE else 1
        memory = processes * costs.bytes_idle[name] + load.running * costs.bytes_per_running[name]
        found[name] = Need(cores, processes, memory)
    return found


def busy(costs: Costs, load: Load) -> dict[str, float]:
    """Cores that each station keeps busy."""
    return {
        name: costs.idle[name]
        + load.starts_per_minute / 60 * costs.per_job[name]
        + load.running * costs.per_running_second[name]
        for name in STATIONS
    }


def requests_per_second(costs: Costs, load: Load) -> float:
    """To the API server."""
    return load.starts_per_minute / 60 * costs.requests_per_job + load.running * costs.requests_per_running_second


def most_starts(costs: Costs, load: Load, cores: Mapping[str, float]) -> dict[str, float]:
    """Starts a minute at which each station has all its cores busy, with as many running as before."""
    found = {}
    for name, there in cores.items():
        left = there - costs.idle[name] - load.running * costs.per_running_second[name]
        found[name] = max(0.0, 60 * left / costs.per_job[name]) if costs.per_job[name] else math.inf
    return found
