"""Jobs that go from station to station, where others are before them: a queueing model, event by event.

Each station has some servers, which take who comes first; a visit holds one for as long as it needs CPU. Between visits
a job may wait for something that needs none, such as the second for which the Job controller gathers what it writes.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from bench.scale.costs import Costs

API: Final = "kube-apiserver"
ETCD: Final = "etcd"
CONTROLLERS: Final = "kube-controller-manager"
SCHEDULER: Final = "kube-scheduler"
OPERATOR: Final = "operator"
WORKER: Final = "worker"
TEMPORAL: Final = "temporal"

BEFORE_THE_POD: Final = (API, ETCD, OPERATOR, TEMPORAL, WORKER, TEMPORAL, API, ETCD, CONTROLLERS, API, ETCD)
"""Where a job is until its pod is there."""
UNTIL_IT_RUNS: Final = (SCHEDULER, API, ETCD, API, ETCD, WORKER, API, ETCD)
"""From the pod to the status that says Running."""
AFTER_THE_POD: Final = (API, ETCD, CONTROLLERS, API, ETCD, WORKER, TEMPORAL, WORKER, API, ETCD, OPERATOR)
"""From the pod's end to the status that says Succeeded, and those who read it."""
GATHERED_SECONDS: Final = 1.0
"""The Job controller waits so long before it writes that pods have ended (its batch period)."""


@dataclass(frozen=True)
class Visit:
    """A station, and the CPU seconds that are spent there; without a station: a wait that needs no CPU."""

    station: str | None
    seconds: float
    marks: str = ""
    """What has happened when it is over."""


@dataclass
class Job:
    """Of one job: when what was over, in seconds."""

    arrived: float
    moments: dict[str, float] = field(default_factory=dict)


def visits(costs: Costs, running_seconds: float) -> list[Visit]:
    """The way of one job; what a station costs it in all is spread evenly over its visits there."""
    path = (*BEFORE_THE_POD, *UNTIL_IT_RUNS, *AFTER_THE_POD)
    share = {name: costs.per_job[name] / path.count(name) for name in set(path)}

    def part(stations: Sequence[str], marks: str) -> Iterator[Visit]:
        for place, name in enumerate(stations):
            yield Visit(name, share[name], marks if place == len(stations) - 1 else "")

    return [
        *part(BEFORE_THE_POD, "pod"),
        *part(UNTIL_IT_RUNS, "running"),
        Visit(None, running_seconds, "ended"),
        Visit(None, GATHERED_SECONDS),
        *part(AFTER_THE_POD, "succeeded"),
    ]


def simulate(
    arrivals: Sequence[float],
    way: Sequence[Visit],
    servers: Mapping[str, int],
    taken: Mapping[str, float] | None = None,
) -> list[Job]:
    """Sends jobs their way; returns them in the order of their arrival, each seen to its end.

    Args:
        arrivals: When each comes, in seconds, in order.
        way: What every one of them does.
        servers: How many each station has. Several names may share one station: see `on_one_machine`.
        taken: The share of each station (0…1) that is always busy with something else, such as jobs that run: every
            visit there takes so much longer.

    Raises:
        ValueError: a station has no servers, or is taken as a whole.
    """
    slower = {name: 1 / (1 - busy) for name, busy in (taken or {}).items() if _possible(name, busy)}
    free = dict(servers)
    lines: dict[str, deque[tuple[int, int]]] = {name: deque() for name in servers}
    jobs = [Job(moment) for moment in arrivals]
    order = itertools.count()
    # When, in which order, which job, at which visit of its way, and whether it ends there (or arrives).
    events = [(moment, next(order), number, 0, False) for number, moment in enumerate(arrivals)]
    heapq.heapify(events)

    def begin(now: float, number: int, place: int) -> None:
        visit = way[place]
        seconds = visit.seconds * slower.get(visit.station or "", 1.0)
        heapq.heappush(events, (now + seconds, next(order), number, place, True))

    while events:
        now, _, number, place, ends = heapq.heappop(events)
        station = way[place].station
        if not ends:
            if station is None:
                begin(now, number, place)
            elif free[station]:
                free[station] -= 1
                begin(now, number, place)
            else:
                lines[station].append((number, place))
            continue
        if way[place].marks:
            jobs[number].moments[way[place].marks] = now
        if station is not None:
            if lines[station]:
                begin(now, *lines[station].popleft())
            else:
                free[station] += 1
        if place + 1 < len(way):
            heapq.heappush(events, (now, next(order), number, place + 1, False))
    return jobs


def _possible(name: str, busy: float) -> bool:
    if not 0 <= busy < 1:
        raise ValueError(f"{name} is busy with {busy:.0%} of its servers' time, expected less than all of it")
    return True


def on_one_machine(way: Sequence[Visit]) -> list[Visit]:
    """The same way where every process shares the CPUs of one machine, the station `machine`."""
    return [Visit("machine" if visit.station else None, visit.seconds, visit.marks) for visit in way]


def poisson(per_second: float, seconds: float, seed: int = 0) -> list[float]:
    """Moments at which nobody waits for anybody else to come."""
    chance = random.Random(seed)
    moments, moment = [], chance.expovariate(per_second)
    while moment < seconds:
        moments.append(moment)
        moment += chance.expovariate(per_second)
    return moments
