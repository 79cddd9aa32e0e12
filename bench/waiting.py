"""What a job costs while it waits: `make bench-waiting`, or `python -m bench.waiting --help`.

On the development cluster with Perdure installed: TrainingJobs that all wait for the same, for some minutes, and for as
long none at all. Counted is what is asked of the API server and of Temporal, and the CPU time that it takes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.cluster import output, workload
from bench.cluster.api import Api, Document, each
from bench.cluster.errors import BenchError
from bench.cluster.figures import markdown, rounded
from bench.cluster.installation import OURS, Installation, installed_with
from bench.cluster.namespaces import namespace
from bench.cluster.session import BUILD, finished, session
from bench.watch.results import Rates
from bench.watch.run import beginning, end_of, rates

RESULTS: Final = BUILD / "waiting/results.json"
HOUR_SECONDS: Final = 3600
DAY_SECONDS: Final = 86_400
SETTLE_SECONDS: Final = 30.0
"""After all wait: what was written of how they came to it is done by then."""
PATIENCE_SECONDS: Final = 900.0
LOOK_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Waits:
    """What jobs wait for."""

    waits: Callable[[Document], bool]
    """Whether a status is of one that waits."""
    spec: Document = field(default_factory=dict)
    """Beside what any job has."""
    values: tuple[str, ...] = ()
    """Of the chart, by which the installation is another meanwhile."""


def _is(what: str, value: str) -> Callable[[Document], bool]:
    return lambda status: status.get(what) == value


WAITS: Final[Mapping[str, Waits]] = {
    "its turn": Waits(_is("phase", "Queued"), values=("--set=limits.maxConcurrentJobs=0",)),
    "being resumed": Waits(_is("phase", "Suspended"), {"suspend": True}),
    "a place on a node": Waits(
        _is("reason", "NoCapacity"), {"resources": {"gpusPerNode": 64}, "deadlines": {"startSeconds": DAY_SECONDS}}
    ),
}


@dataclass(frozen=True)
class Cost:
    """What jobs cost that waited for one thing."""

    waits_for: str
    jobs: int
    idle: Rates
    """While there was none, in the same installation."""
    waiting: Rates

    def requests(self) -> float:
        """To the API server, for each job and hour, beyond those without jobs."""
        return self._of_each(sum(self.waiting.requests.values()) - sum(self.idle.requests.values()))

    def asked_of_temporal(self) -> float | None:
        """The same of Temporal's frontend; None when it does not tell."""
        if not self.waiting.temporal:
            return None
        return self._of_each(sum(self.waiting.temporal.values()) - sum(self.idle.temporal.values()))

    def cpu_seconds(self, who: str) -> float:
        """CPU time of a process, for each job and hour, beyond what it takes without jobs."""
        return self._of_each(self.waiting.cpu[who] - self.idle.cpu[who])

    def _of_each(self, per_second: float) -> float:
        return HOUR_SECONDS * per_second / self.jobs


def tables(costs: Sequence[Cost]) -> list[tuple[str, str]]:
    """Title and Markdown of each."""
    head = ["waits for", "API requests", "requests to Temporal", *(f"CPU s, {who}" for who in (*OURS, "API server"))]
    rows = [
        [
            cost.waits_for,
            rounded(cost.requests()),
            rounded(cost.asked_of_temporal()),
            *(rounded(cost.cpu_seconds(who)) for who in (*OURS, "kube-apiserver")),
        ]
        for cost in costs
    ]
    return [("For each job that waits and an hour, beyond what is used without jobs", markdown(head, rows))]


async def measure(installation: Installation, waits_for: str, jobs: int, minutes: float) -> Cost:
    """Nothing for some minutes, then the jobs for as long; they go afterwards.

    Raises:
        BenchError: some do not wait.
    """
    waits = WAITS[waits_for]
    await installation.find_processes()
    idle = await _over(installation, minutes)
    async with namespace(installation.api, "waiting", str(jobs)) as name:
        path = workload.trainingjobs_path(name)
        documents = [_document(f"j{number}", waits) for number in range(jobs)]
        await each(documents, lambda document: installation.api.create(path, document))
        await _until_all_wait(installation.api, path, waits, jobs)
        await asyncio.sleep(SETTLE_SECONDS)
        waiting = await _over(installation, minutes)
        if (left := jobs - await _waiting(installation.api, path, waits)) > 0:
            raise BenchError(f"{left} of {jobs} jobs wait no more, expected all to; does something else run?")
    return Cost(waits_for, jobs, idle, waiting)


def _document(name: str, waits: Waits) -> Document:
    document = workload.training_job(name, workload.STAYS)
    document["spec"] |= waits.spec
    return document


async def _over(installation: Installation, minutes: float) -> Rates:
    before = await beginning(installation)
    await asyncio.sleep(60 * minutes)
    return rates(before, await end_of(installation))


async def _until_all_wait(api: Api, path: str, waits: Waits, jobs: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (found := await _waiting(api, path, waits)) < jobs:
        if time.monotonic() > deadline:
            raise BenchError(f"{found} of {jobs} jobs wait after {PATIENCE_SECONDS:.0f} s, expected all")
        await asyncio.sleep(LOOK_SECONDS)


async def _waiting(api: Api, path: str, waits: Waits) -> int:
    return sum(waits.waits(job.get("status") or {}) for job in await api.items(path))


def conditions(facts: Mapping[str, Any]) -> str:
    """What the figures depend on, in two sentences."""
    return (
        f"{facts['cpus']} CPUs of an {facts['cpu']}, load {facts['load_before']} before; Kubernetes "
        f"{facts['kubernetes']}, Perdure {facts['perdure']} with {facts['workers']} worker(s); {facts['time']}. "
        f"{facts['jobs']} jobs of each kind for {facts['minutes']:g} minutes."
    )


@dataclass
class Results:
    """What was measured so far."""

    conditions: dict[str, Any]
    costs: list[Cost] = field(default_factory=list)

    @property
    def measured(self) -> set[str]:
        """What jobs waited for."""
        return {cost.waits_for for cost in self.costs}

    def save(self, path: Path) -> None:
        """Raw results with the table beside them."""
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {"conditions": self.conditions, "costs": [asdict(cost) for cost in self.costs]}
        path.write_text(json.dumps(document, indent=1))
        output.beside(path, output.text(conditions(self.conditions), tables(self.costs)), None)


def load(path: Path) -> Results:
    """Those of a file.

    Raises:
        BenchError: there is none that can be read.
    """
    try:
        raw = json.loads(path.read_text())
        costs = [
            Cost(each["waits_for"], each["jobs"], Rates(**each["idle"]), Rates(**each["waiting"]))
            for each in raw["costs"]
        ]
        return Results(raw["conditions"], costs)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BenchError(
            f"found no results in {path} ({error!r}), expected those of an earlier run; run it without --go-on"
        ) from error


async def run(wanted: argparse.Namespace) -> int:
    """Measures each kind, keeps it, and prints the table of all."""
    path: Path = wanted.results
    before = load(path) if wanted.go_on else None
    # One node of KWOK's: no job runs, but the frame wants its process there.
    async with session(nodes=1) as installation:
        facts = await installation.conditions() | {"jobs": wanted.jobs, "minutes": wanted.minutes}
        results = before or Results(facts)
        output.require_same(results.conditions, facts, path)
        for waits_for, waits in WAITS.items():
            if waits_for in results.measured:
                continue
            async with installed_with(*waits.values):
                print(f"  {wanted.jobs} jobs that wait for {waits_for} ...", flush=True)
                results.costs.append(await measure(installation, waits_for, wanted.jobs, wanted.minutes))
            results.save(path)
    print(f"\n{path.with_suffix('.md').read_text()}\nRaw results: {path}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when everything could be measured."""
    parser = argparse.ArgumentParser(prog="bench-waiting", description=__doc__)
    parser.add_argument("--jobs", type=int, default=200, help="that wait at the same time (%(default)s)")
    parser.add_argument("--minutes", type=float, default=4, help="for each kind, with jobs and without (%(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="a file for what was measured (%(default)s)")
    parser.add_argument("--go-on", action="store_true", help="keep what the file has, and measure what is missing")
    wanted = parser.parse_args(arguments)
    if wanted.jobs < 1 or wanted.minutes <= 0:
        parser.error(f"found --jobs {wanted.jobs} --minutes {wanted.minutes:g}, expected both to be more than 0")
    go_on = f'Go on with: make bench-waiting BENCH="--go-on", which keeps what is in {wanted.results}.'
    return finished(run(wanted), go_on)


if __name__ == "__main__":
    raise SystemExit(main())
