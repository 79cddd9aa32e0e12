"""What was measured, as tables: for people at a terminal, and for docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from bench.cluster.figures import markdown, rounded, spread
from bench.temporal.results import PARTS, STORES, TEMPORAL, WORKER, Held, Results, Run

Figure = Callable[[Run], float]
_MS: Final = 1000
_MIB: Final = 1 << 20
_KIB: Final = 1 << 10

FIGURES: Final[Mapping[str, Figure]] = {
    "workflows/s": lambda run: run.workflows_per_second,
    "start → completed p50, ms": lambda run: _MS * run.latency(0.5),
    "start → completed p95, ms": lambda run: _MS * run.latency(0.95),
    "CPU per workflow, Temporal, ms": lambda run: _MS * run.cpu_per_workflow(*TEMPORAL),
    "CPU per workflow, worker, ms": lambda run: _MS * run.cpu_per_workflow(WORKER),
    "CPUs busy, all of it": lambda run: run.cpus_busy,
    "data on disk per workflow, KiB": lambda run: run.disk_bytes / run.plan.workflows / _KIB,
}


def conditions(results: Results) -> str:
    """What the figures depend on, in a few sentences."""
    told = results.conditions
    said = (
        f"{told['cpus']} CPUs of an {told['cpu']}, load {told['load_before']} before; {told['temporal']}, temporalio "
        f"{told['sdk']}, Perdure {told['perdure']}; data on {told['filesystem']}; {told['time']}."
    )
    if told["postgresql"]:
        said += f" {told['postgresql']}"
    left_out = ", ".join(STORES[store] for store in told["without"])
    return f"{said} Left out, as told: {left_out}." if left_out else said


def tables(results: Results) -> Iterator[tuple[str, str]]:
    """Title and Markdown of each."""
    for load in results.loads:
        yield load, _load(results, load)
    if results.loads:
        largest = results.loads[-1]
        yield f"CPU milliseconds per workflow by process, {largest}", _cpu(results, largest)
        yield "Memory in MiB: before, most", _memory(results)
        yield "A workflow's history", _stories(results)
    if results.held:
        yield _title(results.held), _held(results)


def _load(results: Results, load: str) -> str:
    rows = [
        [name, *(spread([figure(run) for run in results.of(load, store)]) for store in results.stores)]
        for name, figure in FIGURES.items()
    ]
    return markdown(["", *_names(results)], rows)


def _names(results: Results) -> list[str]:
    return [STORES[store] for store in results.stores]


def _cpu(results: Results, load: str) -> str:
    rows = []
    for part in PARTS:
        runs = [[run for run in results.of(load, store) if part in run.cpu_seconds] for store in results.stores]
        rows.append([part, *(spread([_MS * run.cpu_per_workflow(part) for run in each]) for each in runs)])
    own = [[_MS * run.own_cpu_seconds / run.plan.workflows for run in results.of(load, s)] for s in results.stores]
    rows.append(["(the measuring program, which starts them)", *map(spread, own)])
    return markdown(["process", *_names(results)], rows)


def _memory(results: Results) -> str:
    rows = []
    for load in results.loads:
        for part in PARTS:
            told = [[run.memory[part] for run in results.of(load, s) if part in run.memory] for s in results.stores]
            cells = [
                f"{rounded(each[-1]['before'] / _MIB)}, {rounded(each[-1]['most'] / _MIB)}" if each else "-"
                for each in told
            ]
            if any(told):
                rows.append([f"{part}, {load}", *cells])
    return markdown(["process", *_names(results)], rows)


def _stories(results: Results) -> str:
    kinds = {
        "events": "events",
        "actions": "actions (as Temporal Cloud counts)",
        "workflow_tasks": "workflow tasks",
        "activities": "activities",
        "local_activities": "local activities",
        "bytes_": "bytes",
    }
    runs = [[run for run in results.runs if run.plan.store == store and run.story] for store in results.stores]
    rows = [
        [name, *(rounded(sum(run.story[key] for run in each) / len(each)) if each else "-" for each in runs)]
        for key, name in kinds.items()
    ]
    return markdown(["per workflow", *_names(results)], rows)


def _title(held: list[Held]) -> str:
    first = held[0]
    return f"{first.workflows:,} open workflows with a heartbeating activity each, for {first.minutes:g} minutes"


def _held(results: Results) -> str:
    held = {store: [each for each in results.held if each.store == store] for store in results.stores}
    rows = []
    for part in PARTS:
        cells = [[_MS * each.cpu_per_minute(part) for each in held[store] if part in each.held_cpu] for store in held]
        rows.append([f"CPU per workflow and minute, {part}, ms", *map(spread, cells)])
    for part in PARTS:
        idle = [[_MS * each.idle_cpu[part] for each in held[store] if part in each.idle_cpu] for store in held]
        rows.append([f"CPU per second without any, {part}, ms", *map(spread, idle)])
    for part in PARTS:
        cells = [
            [each.bytes_per_workflow(part) / _KIB for each in held[store] if part in each.memory] for store in held
        ]
        rows.append([f"memory per workflow, {part}, KiB", *map(spread, cells)])
    return markdown(["", *_names(results)], rows)
