"""What a job costs, read from what was measured: every number of the model is one of these, or an input of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bench.cluster.errors import BenchError
from bench.cluster.installation import CONTROL_PLANE, OURS
from bench.cluster.workload import OURS as TRAINING_JOB
from bench.control_plane.results import Results as Bursts
from bench.control_plane.results import Run
from bench.watch.results import Results as Running
from perdure_devcluster import controlplane

KUBELETS: Final = controlplane.KWOK
"""On real nodes what KWOK does is done by their kubelets, each for its own pods."""
STATIONS: Final = tuple(name for name in (*CONTROL_PLANE, *OURS) if name != KUBELETS)


@dataclass(frozen=True)
class Costs:
    """By station: of a job, of a running job, of nothing at all."""

    per_job: Mapping[str, float]
    """CPU seconds from its object to its end."""
    per_running_second: Mapping[str, float]
    """CPU seconds for each second that a job runs."""
    idle: Mapping[str, float]
    """CPU seconds for each second, without jobs."""
    bytes_per_running: Mapping[str, float]
    bytes_idle: Mapping[str, float]
    requests_per_job: float
    """To the API server."""
    requests_per_running_second: float


def measured(bursts: Bursts, running: Running) -> Costs:
    """From the largest burst, and the largest number of running jobs.

    Raises:
        BenchError: one of both was not measured.
    """
    runs = largest_burst(bursts)
    held = max(running.held, key=lambda each: each.jobs, default=None)
    if not runs or held is None:
        raise BenchError(
            "found no burst of TrainingJobs, or no running ones, expected both; run: make bench-control-plane "
            "bench-watch"
        )
    return Costs(
        per_job={name: _mean(runs, name) for name in STATIONS},
        per_running_second={name: max(0.0, held.more_cpu(name) / held.jobs) for name in STATIONS},
        idle={name: held.idle.cpu[name] for name in STATIONS},
        bytes_per_running={name: max(0.0, held.bytes_per_job(name)) for name in STATIONS},
        bytes_idle={name: float(held.memory[name]["before"]) for name in STATIONS},
        requests_per_job=sum(run.requests_per_job for run in runs) / len(runs),
        requests_per_running_second=max(0.0, held.requests_per_job_and_minute / 60),
    )


def largest_burst(bursts: Bursts) -> list[Run]:
    """All turns of the burst with the most TrainingJobs."""
    runs = [run for run in bursts.runs if run.plan.at_once and run.plan.kind == TRAINING_JOB]
    most = max((run.plan.jobs for run in runs), default=0)
    return [run for run in runs if run.plan.jobs == most]


def _mean(runs: list[Run], name: str) -> float:
    return sum(run.cpu_seconds[name] / len(run.jobs) for run in runs) / len(runs)
