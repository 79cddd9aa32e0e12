"""The model beside what was measured: told a cost at one size, does it say how the other sizes went?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from bench.cluster.figures import quantile
from bench.cluster.installation import OTHERS
from bench.cluster.workload import OURS as TRAINING_JOB
from bench.control_plane.results import Results, Run
from bench.scale.costs import KUBELETS, STATIONS, Costs
from bench.scale.simulate import API, on_one_machine, simulate, visits


@dataclass(frozen=True)
class Point:
    """One figure of one size."""

    what: str
    measured: float
    modelled: float

    @property
    def off(self) -> float:
        """By which share the model says too much (or, below zero, too little)."""
        return self.modelled / self.measured - 1


def points(bursts: Results, costs: Costs) -> Iterator[Point]:
    """Seconds of each burst, by the costs of another one: the next larger; for the largest the next smaller."""
    cpus = int(bursts.conditions["cpus"])
    sizes = sorted({run.plan.jobs for run in _bursts(bursts)})
    for place, size in enumerate(sizes):
        if len(sizes) == 1:
            return
        other = sizes[place + 1] if place + 1 < len(sizes) else sizes[place - 1]
        runs = [run for run in _bursts(bursts) if run.plan.jobs == size]
        told = _costs([run for run in _bursts(bursts) if run.plan.jobs == other], costs)
        jobs = simulate([0.0] * size, on_one_machine(visits(told, 0.0)), {"machine": cpus})
        ends = [job.moments["succeeded"] for job in jobs]
        yield Point(f"{size:,} at once, seconds until the last has succeeded", _mean_seconds(runs), max(ends))
        yield Point(
            f"{size:,} at once, seconds until half of them have",
            sum(_median_end(run) for run in runs) / len(runs),
            quantile(ends, 0.5),
        )


def _bursts(bursts: Results) -> list[Run]:
    return [run for run in bursts.runs if run.plan.at_once and run.plan.kind == TRAINING_JOB]


def _costs(runs: list[Run], costs: Costs) -> Costs:
    """Costs of a burst. What else computed on the machine takes its CPUs too, and is put to the API server's part."""
    per_job = {name: sum(run.cpu_seconds[name] / len(run.jobs) for run in runs) / len(runs) for name in STATIONS}
    for run in runs:
        beside = run.cpu_seconds[KUBELETS] + run.cpu_seconds[OTHERS] + run.own_cpu_seconds
        per_job[API] += beside / len(run.jobs) / len(runs)
    return replace(costs, per_job=per_job)


def _mean_seconds(runs: list[Run]) -> float:
    return sum(run.seconds for run in runs) / len(runs)


def _median_end(run: Run) -> float:
    first = min(moments.applied or 0.0 for moments in run.jobs)
    return quantile([(moments.succeeded or 0.0) - first for moments in run.jobs], 0.5)
