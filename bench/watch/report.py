"""What was measured while jobs ran, as tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from bench.cluster import goals
from bench.cluster.figures import markdown, quantile, rounded
from bench.cluster.goals import Goal
from bench.cluster.installation import CONTROL_PLANE, OURS
from bench.cluster.requests import Request
from bench.watch.results import Held, Results

_MIB: Final = 1 << 20
_KB: Final = 1000
_MS: Final = 1000
_MINUTE: Final = 60
LARGE: Final = 5000
"""So many jobs are to be carried by one worker."""


def conditions(results: Results) -> str:
    """What the figures depend on, in a few sentences."""
    told = results.conditions
    return (
        f"{told['cpus']} CPUs of an {told['cpu']}, load {told['load_before']} before; Kubernetes {told['kubernetes']}, "
        f"Perdure {told['perdure']} with {told['workers']} worker(s), worker.watchSlots {told['watch_slots']}; "
        f"{told['time']}. Each size was held for {', '.join(f'{held.minutes:g}' for held in results.held)} minutes."
    )


def tables(results: Results) -> Iterator[tuple[str, str]]:
    """Title and Markdown of each."""
    yield "Goals", goals.table(list(_goals(results)))
    if not results.held:
        return
    yield "Beyond what is used without jobs", _costs(results)
    yield "CPU milliseconds per running job and minute, beyond what is used without jobs", _cpu(results)
    yield "Memory in MiB: without jobs, when all run, at the end", _memory(results)
    yield "Requests to the API server per running job and minute", _requests(results)
    if any(held.restarts for held in results.held):
        yield "Seconds until a job is watched again after all workers were ended", _restarts(results)


def _goals(results: Results) -> Iterator[list[str]]:
    for held in results.held:
        size = f"{held.jobs:,} jobs"
        cpu = Goal(f"CPU per job and minute, worker + Temporal, {size}", 5, unit="ms", anchor="prototype: 12.6")
        yield cpu.row([_MS * held.cpu_per_job_and_minute("worker", "temporal")])
        for who, limit, anchor in (("worker", 60, "prototype: 80"), ("operator", 30, "prototype: 32")):
            memory = Goal(f"memory per job, {who}, {size}", limit, unit="kB", anchor=anchor)
            yield memory.row([held.bytes_per_job(who) / _KB])
        asked = Goal(f"API requests per job and minute, {size}", 6)
        yield asked.row([held.requests_per_job_and_minute])
    large = [held for held in results.held if held.jobs >= LARGE]
    whole = Goal(f"memory of the worker with {LARGE:,} jobs", 512, unit="MiB", anchor="SkyPilot: 2,000 jobs at 32 GiB")
    yield whole.row([held.memory["worker"]["end"] / _MIB for held in large])
    core = Goal(f"CPU of the worker with {LARGE:,} jobs", 1, unit="cores")
    yield core.row([held.held.cpu["worker"] for held in large])


def _sizes(results: Results) -> list[str]:
    return [f"{held.jobs:,}" for held in results.held]


def _costs(results: Results) -> str:
    rows: dict[str, list[str]] = {
        "CPU per job and minute, worker + Temporal, ms": [
            rounded(_MS * held.cpu_per_job_and_minute("worker", "temporal")) for held in results.held
        ],
        "CPU per job and minute, all processes, ms": [
            rounded(_MS * held.cpu_per_job_and_minute(*CONTROL_PLANE, *OURS)) for held in results.held
        ],
        "memory per job, worker, kB": [rounded(held.bytes_per_job("worker") / _KB) for held in results.held],
        "memory per job, operator, kB": [rounded(held.bytes_per_job("operator") / _KB) for held in results.held],
        "memory per job, Temporal, kB": [rounded(held.bytes_per_job("temporal") / _KB) for held in results.held],
        "API requests per job and minute": [rounded(held.requests_per_job_and_minute) for held in results.held],
        "heartbeats per second": [rounded(held.heartbeats_per_second) for held in results.held],
        "pod end → Succeeded p50, s": [_quantile(held.noticed, 0.5) for held in results.held],
        "pod end → Succeeded p95, s": [_quantile(held.noticed, 0.95) for held in results.held],
        "pod end → Job complete p50, s": [_quantile(held.completed, 0.5) for held in results.held],
        "until all ran and were watched, s": [rounded(held.starting_seconds) for held in results.held],
    }
    return markdown(["running jobs", *_sizes(results)], [[name, *cells] for name, cells in rows.items()])


def _quantile(values: Sequence[float], share: float) -> str:
    return rounded(quantile(values, share)) if values else "-"


def _cpu(results: Results) -> str:
    rows = [
        [who, *(rounded(_MS * held.cpu_per_job_and_minute(who)) for held in results.held)]
        for who in (*CONTROL_PLANE, *OURS)
    ]
    return markdown(["process", *_sizes(results)], rows)


def _memory(results: Results) -> str:
    rows = []
    for held in results.held:
        for who in (*CONTROL_PLANE, *OURS):
            told = held.memory[who]
            cells = [rounded(told[when] / _MIB) for when in ("before", "running", "end")]
            rows.append([f"{who}, {held.jobs:,} jobs", *cells])
    return markdown(["process", "without", "all run", "at the end"], rows)


def _requests(results: Results) -> str:
    def per_job_and_minute(held: Held, kind: str) -> float:
        return _MINUTE * (held.held.requests.get(kind, 0.0) - held.idle.requests.get(kind, 0.0)) / held.jobs

    kinds = {kind for held in results.held for kind in held.held.requests}
    cells = {kind: [per_job_and_minute(held, kind) for held in results.held] for kind in kinds}
    shown = [kind for kind in kinds if max(map(abs, cells[kind])) >= 0.001]  # noqa: PLR2004 - what rounds to something
    ordered = sorted(shown, key=lambda kind: (Request.parse(kind).resource, kind))
    return markdown(["request", *_sizes(results)], [[kind, *map(rounded, cells[kind])] for kind in ordered])


def _restarts(results: Results) -> str:
    rows = []
    for held in results.held:
        for restart in held.restarts:
            cells = [rounded(quantile(restart.again, share)) for share in (0.5, 0.95, 1.0)]
            asked = sum(restart.requests.values()) / held.jobs
            rows.append([f"{held.jobs:,} jobs, workers {restart.how}", *cells, rounded(asked)])
    return markdown(["", "p50", "p95", "all", "API requests per job"], rows)
