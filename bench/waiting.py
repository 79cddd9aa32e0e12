"""What a job costs while it waits: `make bench-waiting`, or `python -m bench.waiting --help`.

Many jobs that wait for the same, for a while: what is asked of the API server and what is written into Temporal's
histories meanwhile, for each of them and an hour, less what the same time costs without any. On the development
cluster; nothing else may run on it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.cluster.conftest import (
    SYSTEM,
    Jobs,
    Kubectl,
    kubeconfig_of_the_cluster,
    loaded_base_image,
    phase,
    store_credentials,
    training_job,
    wait_until,
    working_namespace,
)
from tests.cluster.test_health import told
from tests.cluster.test_install import install

Document = dict[str, Any]
REQUESTS: Final = "apiserver_request_total"
OURS: Final = "perdure_kubernetes_requests_total"
DAY_SECONDS: Final = 86_400
PATIENCE_SECONDS: Final = 600.0
_SAMPLE: Final = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Waits:
    """What jobs wait for."""

    spec: Callable[[Jobs], Document]
    waits: Callable[[Document], bool]
    """Whether a job has come to where it waits."""
    limited: bool = False
    """It waits for its turn: the installation's limit is 0 meanwhile."""


def _is(name: str) -> Callable[[Document], bool]:
    return lambda job: phase(job) == name


def _has_failed_once(job: Document) -> bool:
    return job.get("status", {}).get("attemptCounters", {}).get("failed", 0) == 1


WAITS: Final[Mapping[str, Waits]] = {
    "to be resumed": Waits(lambda jobs: jobs.own("true", suspend=True), _is("Suspended")),
    "for its next attempt": Waits(
        lambda jobs: jobs.own("false", retry={"initialIntervalSeconds": DAY_SECONDS}), _has_failed_once
    ),
    "for a place on a node": Waits(
        lambda jobs: jobs.own("true", resources={"gpusPerNode": 64}, deadlines={"startSeconds": DAY_SECONDS}),
        lambda job: job.get("status", {}).get("reason") == "NoCapacity",
    ),
    "for its trainer's end": Waits(lambda jobs: jobs.own("sleep", str(DAY_SECONDS)), _is("Running")),
    "for its turn": Waits(lambda jobs: jobs.own("true"), _is("Queued"), limited=True),
}


@dataclass(frozen=True)
class Counts:
    """What was counted by a moment, or in a time."""

    ours: float
    """Requests to the API server of operator and workers, as they tell."""
    of_trainingjobs: float
    """Requests that have to do with TrainingJobs, of whomever: as the API server tells."""
    events: float = 0
    """Events in the histories of the jobs' workflows."""

    def __sub__(self, other: Counts) -> Counts:
        """What came to it."""
        return Counts(self.ours - other.ours, self.of_trainingjobs - other.of_trainingjobs, self.events - other.events)

    def divided(self, by: float) -> Counts:
        """The same for one of so many."""
        return Counts(self.ours / by, self.of_trainingjobs / by, self.events / by)


def total(metrics: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels, in Prometheus' text format."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(
        float(value)
        for found, has, value in _SAMPLE.findall(metrics)
        if found == name and all(each in has.split(",") for each in wanted)
    )


def of_each(counted: Counts, idle: Counts, jobs: int, hours: float) -> Counts:
    """What one job costs in an hour.

    Args:
        counted: With so many jobs that wait, for that time.
        idle: Without any, for as long.
        jobs: How many.
        hours: How long.
    """
    return (counted - idle).divided(jobs * hours)


def table(found: Mapping[str, Counts], idle: Counts, hours: float) -> Iterator[str]:
    """For people."""
    an_hour = idle.divided(hours)
    yield (
        f"Without any job, in an hour: {an_hour.ours:.0f} requests of operator and workers to the API server, "
        f"{an_hour.of_trainingjobs:.0f} about TrainingJobs."
    )
    yield "Beyond that, for each job that waits and an hour:"
    yield "(heartbeats of those that are followed, for a place or for their trainer's end, are no events)"
    yield f"{'it waits':24}{'requests of ours':>18}{'about TrainingJobs':>20}{'Temporal events':>17}"
    for name, each in found.items():
        yield f"{name:24}{each.ours:>18.2f}{each.of_trainingjobs:>20.2f}{each.events:>17.2f}"


def counts(system: Kubectl) -> Counts:
    """Of requests, by now."""
    ours = sum(total(told(system, component, "/metrics"), OURS) for component in ("operator", "worker"))
    return Counts(ours, total(system("get", "--raw", "/metrics"), REQUESTS, resource="trainingjobs"))


def histories(system: Kubectl, documents: Sequence[Document]) -> float:
    """Events in the histories of these jobs' workflows; jobs that have none yet count nothing."""
    ids = [each["status"]["workflow"]["id"] for each in documents if "workflow" in each.get("status", {})]
    return sum(_length(system, workflow_id) for workflow_id in ids)


def _length(system: Kubectl, workflow_id: str) -> int:
    describe = ["temporal", "workflow", "describe", "--address", "127.0.0.1:7233", "--workflow-id", workflow_id]
    document = json.loads(system("exec", "perdure-temporal-0", "--", *describe, "-o", "json"))
    return int(document["workflowExecutionInfo"]["historyLength"])


def measure(kind: Waits, system: Kubectl, jobs: Jobs, many: int, seconds: float) -> Counts:
    """What is counted in a time in which so many jobs wait. Their histories are looked at before and after it."""
    items = [training_job(f"waits-{number}", kind.spec(jobs)) for number in range(many)]
    jobs.kubectl("create", "-f", "-", document={"apiVersion": "v1", "kind": "List", "items": items})
    wait_until(
        lambda: all(map(kind.waits, jobs.kubectl.items("trainingjobs"))), PATIENCE_SECONDS, lambda: "some do not wait"
    )
    documents = jobs.kubectl.items("trainingjobs")
    written = histories(system, documents)
    before = counts(system)
    time.sleep(seconds)
    counted = counts(system) - before
    assert all(map(kind.waits, jobs.kubectl.items("trainingjobs"))), "some do not wait any more"
    return Counts(counted.ours, counted.of_trainingjobs, histories(system, documents) - written)


@contextmanager
def nobody_may_run() -> Iterator[None]:
    """The installation's limit is 0, and none again afterwards."""
    install("--set", "limits.maxConcurrentJobs=0")
    try:
        yield
    finally:
        install()


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="bench-waiting", description=__doc__)
    parser.add_argument("--jobs", type=int, default=50, help="that wait at the same time (%(default)s)")
    parser.add_argument("--minutes", type=float, default=5, help="for each kind, and without any (%(default)s)")
    parser.add_argument("--results", type=Path, help="a file for what was measured, as JSON")
    options = parser.parse_args(arguments)
    system = Kubectl(kubeconfig_of_the_cluster(), SYSTEM)
    credentials, image = store_credentials(system), loaded_base_image()
    before = counts(system)
    time.sleep(60 * options.minutes)
    idle, hours = counts(system) - before, options.minutes / 60
    found: dict[str, Counts] = {}
    for number, (name, kind) in enumerate(WAITS.items()):
        with (
            nobody_may_run() if kind.limited else nullcontext(),
            working_namespace(system, f"bench-{os.getpid()}-{number}", credentials) as kubectl,
        ):
            counted = measure(kind, system, Jobs(kubectl, image), options.jobs, 60 * options.minutes)
            found[name] = of_each(counted, idle, options.jobs, hours)
            kubectl("delete", "trainingjobs", "--all", "--timeout=300s")
        sys.stdout.write(f"  {name}: done\n")
        sys.stdout.flush()
    print(f"{options.jobs} jobs of each kind for {options.minutes:g} minutes")
    print("\n".join(table(found, idle, hours)))
    if options.results:
        options.results.write_text(json.dumps({name: vars(each) for name, each in found.items()}, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
