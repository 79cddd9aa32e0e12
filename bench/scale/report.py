"""What ten thousand jobs need, as tables: for a terminal, and for docs/scale.md."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from bench.cluster.figures import markdown, quantile, rounded
from bench.control_plane.results import Results
from bench.scale.check import points
from bench.scale.costs import STATIONS, Costs
from bench.scale.load import FILLED, ONE_CORE, Load, Need, busy, most_starts, needs, requests_per_second
from bench.scale.simulate import Job, poisson, simulate, visits

_MS = 1000
_KB = 1000
_GIB = 1 << 30
SIMULATED_SECONDS = 300.0
LAGS = {
    "apply → pod": ("arrived", "pod"),
    "pod → Running told": ("pod", "running"),
    "pod end → Succeeded": ("ended", "succeeded"),
}


def tables(bursts: Results, costs: Costs, load: Load) -> Iterator[tuple[str, str]]:
    """Title and Markdown of each."""
    needed = needs(costs, load)
    yield "What a job costs, measured", _costs(costs)
    yield (
        f"{load.running:,} running and {load.starts_per_minute:,.0f} starts a minute need",
        _needs(costs, load, needed),
    )
    yield "How long a job waits for its steps then, simulated", _lags(costs, load, needed)
    yield "Starts a minute at which each has its cores full, with as many running", _next(costs, load, needed)
    yield "The model beside what was measured", _check(bursts, costs)


def _costs(costs: Costs) -> str:
    rows = [
        [
            name,
            rounded(_MS * costs.per_job[name]),
            rounded(_MS * 60 * costs.per_running_second[name]),
            rounded(_MS * costs.idle[name]),
            rounded(costs.bytes_per_running[name] / _KB),
        ]
        for name in STATIONS
    ]
    head = ["", "CPU ms per job", "CPU ms per running job and minute", "idle CPU ms per second", "kB per running job"]
    return markdown(head, rows)


def _needs(costs: Costs, load: Load, needed: Mapping[str, Need]) -> str:
    rows = []
    for name, need in needed.items():
        order = f"{need.processes} of 1 core" if name in ONE_CORE else f"{need.cores_to_order} cores"
        rows.append([name, rounded(need.cores), order, rounded(need.bytes_ / _GIB)])
    rows.append(["requests to the API server per second", rounded(requests_per_second(costs, load)), "", ""])
    return markdown(["", "cores busy", f"order, at most {FILLED:.0%} busy", "GiB"], rows)


def servers(needed: Mapping[str, Need]) -> dict[str, int]:
    """How many cores each station has when it is ordered so."""
    return {name: need.processes if name in ONE_CORE else need.cores_to_order for name, need in needed.items()}


def _lags(costs: Costs, load: Load, needed: Mapping[str, Need]) -> str:
    there = servers(needed)
    resting = busy(costs, Load(starts_per_minute=1e-9, running=load.running))
    taken = {name: resting[name] / there[name] for name in there}
    way = visits(costs, load.running_seconds)
    per_second = load.starts_per_minute / 60
    waves = {
        "one by one, at random moments": poisson(per_second, SIMULATED_SECONDS),
        f"{load.starts_per_minute:,.0f} at once, once a minute": [
            60.0 * minute for minute in range(int(SIMULATED_SECONDS // 60)) for _ in range(int(load.starts_per_minute))
        ],
    }
    rows = []
    for wave, arrivals in waves.items():
        jobs = simulate(arrivals, way, there, taken)
        for name, (since, until) in LAGS.items():
            lags = [_moment(job, until) - _moment(job, since) for job in jobs]
            rows.append([f"{name}, {wave}", rounded(quantile(lags, 0.5)), rounded(quantile(lags, 0.95))])
    return markdown(["seconds", "p50", "p95"], rows)


def _moment(job: Job, name: str) -> float:
    return job.arrived if name == "arrived" else job.moments[name]


def _next(costs: Costs, load: Load, needed: Mapping[str, Need]) -> str:
    there = servers(needed)
    most = most_starts(costs, load, there)
    alone = most_starts(costs, load, {name: 1 if name in ONE_CORE else there[name] for name in there})
    rows = [
        [name, f"{there[name]}", _starts(most[name]), _starts(alone[name]) if name in ONE_CORE else ""]
        for name in sorted(there, key=lambda name: most[name])
    ]
    return markdown(["first to be full first", "cores", "starts a minute", "with one process"], rows)


def _starts(number: float) -> str:
    return "-" if math.isinf(number) else f"{number:,.0f}"


def _check(bursts: Results, costs: Costs) -> str:
    rows = [
        [point.what, rounded(point.measured), rounded(point.modelled), f"{point.off:+.0%}"]
        for point in points(bursts, costs)
    ]
    return markdown(["", "measured", "model", "off by"], rows)
