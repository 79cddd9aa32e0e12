"""What was measured, as tables: for people at a terminal, and for docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from bench.cluster import goals
from bench.cluster.figures import markdown, rounded, spread
from bench.cluster.goals import Goal
from bench.cluster.installation import CONTROL_PLANE, OTHERS, OURS
from bench.cluster.requests import Request
from bench.cluster.workload import KINDS, PLAIN
from bench.cluster.workload import OURS as TRAINING_JOB
from bench.control_plane.results import Results, Run

Figure = Callable[[Run], float]
_MS: Final = 1000
_MIB: Final = 1 << 20

FIGURES: Final[dict[str, Figure]] = {
    "jobs/s": lambda run: run.jobs_per_second,
    "apply → pod p50, ms": lambda run: _MS * run.lag("applied", "pod", 0.5),
    "apply → pod p95, ms": lambda run: _MS * run.lag("applied", "pod", 0.95),
    "pod end → Succeeded p50, ms": lambda run: _MS * run.lag("ended", "succeeded", 0.5),
    "pod end → Succeeded p95, ms": lambda run: _MS * run.lag("ended", "succeeded", 0.95),
    "CPU per job, ms": lambda run: _MS * run.cpu_seconds_per_job,
    "API requests per job": lambda run: run.requests_per_job,
    "API writes per job": lambda run: run.writes_per_job,
    "objects per job": lambda run: run.objects_per_job,
}
"""Of a plain Job, Succeeded is Complete."""


def conditions(results: Results) -> str:
    """What the figures depend on, in one sentence."""
    told = results.conditions
    return (
        f"{told['cpus']} CPUs of an {told['cpu']}, load {told['load_before']} before; Kubernetes {told['kubernetes']}, "
        f"Perdure {told['perdure']} with {told['workers']} workers; {told['time']}."
    )


def tables(results: Results) -> Iterator[tuple[str, str]]:
    """Title and Markdown of each."""
    yield "Goals", goals.table(list(_goals(results)))
    for load in results.loads:
        yield load, _load(results, load)
    bursts = [load for load in results.loads if results.of(load, TRAINING_JOB)]
    if bursts:
        largest = bursts[-1]
        yield f"CPU milliseconds per job, {largest}", _cpu(results, largest)
        yield f"Requests to the API server per job, {largest}", _requests(results, largest)
        yield "Memory in MiB: before, most, after", _memory(results, bursts)
        yield "A workflow's history", _stories(results, bursts)


def ratios(results: Results, load: str, figure: Figure) -> list[float]:
    """A figure of TrainingJobs divided by that of plain Jobs in the same turn."""
    plain = {run.plan.turn: figure(run) for run in results.of(load, PLAIN)}
    ours = {run.plan.turn: figure(run) for run in results.of(load, TRAINING_JOB)}
    return [ours[turn] / plain[turn] for turn in ours if plain.get(turn)]


def _goals(results: Results) -> Iterator[list[str]]:
    bursts = [load for load in results.loads if load.endswith("at once")]
    burst = bursts[-1] if bursts else ""
    single = next((load for load in results.loads if load.endswith("one by one")), "")

    def of(load: str, figure: Figure) -> list[float]:
        return [figure(run) for run in results.of(load, TRAINING_JOB)]

    speed = Goal(f"jobs/s ÷ plain Jobs, {burst}", 0.35, at_least=True, anchor="Kubeflow Trainer 2.3: 0.23")
    yield speed.row(ratios(results, burst, FIGURES["jobs/s"]))
    cost = Goal(f"CPU per job ÷ plain Job, {burst}", 2.8, anchor="Kubeflow Trainer 2.3: 4.2")
    yield cost.row(ratios(results, burst, FIGURES["CPU per job, ms"]))
    writes = Goal(f"API writes per job, Events included, {burst}", 17, anchor="plain Job 11, Kubeflow Trainer 2.3: 25")
    yield writes.row(of(burst, FIGURES["API writes per job"]))
    lag = Goal(f"Job complete → Succeeded p95, {burst}", 500, unit="ms", anchor="Kubeflow Trainer 2.3: tens of seconds")
    yield lag.row(of(burst, lambda run: _MS * run.lag("completed", "succeeded", 0.95)))
    for share, limit, anchor in ((0.5, 50, "53"), (0.95, 80, "78")):
        goal = Goal(f"apply → pod p{share * 100:.0f}, {single}", limit, unit="ms", anchor=f"Kubeflow Trainer: {anchor}")
        yield goal.row(of(single, lambda run, share=share: _MS * run.lag("applied", "pod", share)))  # type: ignore[misc]
    done = Goal(f"Job complete → Succeeded p50, {single}", 50, unit="ms")
    yield done.row(of(single, lambda run: _MS * run.lag("completed", "succeeded", 0.5)))


def _load(results: Results, load: str) -> str:
    rows = []
    for name, figure in FIGURES.items():
        by_kind = [[figure(run) for run in results.of(load, kind)] for kind in KINDS]
        rows.append([name, *map(spread, by_kind), spread(ratios(results, load, figure))])
    return markdown(["", "plain Job", "TrainingJob", "÷"], rows)


def _mean(runs: Sequence[Run], figure: Figure) -> float:
    return sum(map(figure, runs)) / len(runs) if runs else float("nan")


def _cpu(results: Results, load: str) -> str:
    rows = []
    for who in (*CONTROL_PLANE, *OURS):
        cells = [
            rounded(_mean(results.of(load, kind), lambda run, who=who: _MS * run.cpu_seconds[who] / len(run.jobs)))  # type: ignore[misc]
            for kind in KINDS
        ]
        rows.append([who, *cells])
    rows.append(["together", *(rounded(_mean(results.of(load, kind), FIGURES["CPU per job, ms"])) for kind in KINDS)])
    beside: dict[str, Figure] = {
        "(the rest of the cluster)": lambda run: _MS * run.cpu_seconds[OTHERS] / len(run.jobs),
        "(the measuring program)": lambda run: _MS * run.own_cpu_seconds / len(run.jobs),
    }
    rows += [
        [name, *(rounded(_mean(results.of(load, kind), figure)) for kind in KINDS)] for name, figure in beside.items()
    ]
    return markdown(["process", "plain Job", "TrainingJob"], rows)


def _requests(results: Results, load: str) -> str:
    kinds: dict[str, list[float]] = {}
    for place, kind in enumerate(KINDS):
        runs = results.of(load, kind)
        for run in runs:
            for request, times in run.requests.items():
                kinds.setdefault(request, [0.0, 0.0])[place] += times / len(run.jobs) / len(runs)
    seen = {text: cells for text, cells in kinds.items() if max(cells) >= 0.05}  # noqa: PLR2004
    ordered = sorted(seen, key=lambda text: (Request.parse(text).resource, text))
    rows = [[text, *map(rounded, seen[text]), "yes" if Request.parse(text).writes else ""] for text in ordered]
    return markdown(["request", "plain Job", "TrainingJob", "writes"], rows)


def _memory(results: Results, loads: Sequence[str]) -> str:
    rows = []
    for load in loads:
        run = results.of(load, TRAINING_JOB)[-1]
        for who in OURS:
            told = run.memory[who]
            rows.append([f"{who}, {load}", *(rounded(told[when] / _MIB) for when in ("before", "most", "after"))])
    return markdown(["process", "before", "most", "after"], rows)


def _stories(results: Results, loads: Sequence[str]) -> str:
    names = {
        "events": "events",
        "actions": "actions (as Temporal Cloud counts)",
        "workflow_tasks": "workflow tasks",
        "activities": "activities",
        "local_activities": "local activities",
        "bytes_": "bytes",
    }
    rows = []
    for key, name in names.items():
        cells = [_mean(results.of(load, TRAINING_JOB), lambda run, key=key: run.story.get(key, 0.0)) for load in loads]  # type: ignore[misc]
        rows.append([name, *map(rounded, cells)])
    return markdown(["per job", *loads], rows)
