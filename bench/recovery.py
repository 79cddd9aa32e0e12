"""How long a job stands still after a fault: `make bench-recovery`, or `python -m bench.recovery --help`.

From the fault to the first step of the next attempt, in its parts, on the development cluster, one job at a time. What
imports alone cost is measured beside it, in the same pods.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from bench.cluster.errors import BenchError
from bench.cluster.session import BUILD, INTERRUPTED
from tests.chaos.witness import TrainerProcess, trainer_processes
from tests.cluster.conftest import (
    SYSTEM,
    Jobs,
    Kubectl,
    installed_store,
    kubeconfig_of_the_cluster,
    loaded_base_image,
    phase,
    put_tiny_inputs,
    step,
    store_credentials,
    trainer_image,
    wait_until,
    working_namespace,
)
from tests.cluster.watches import watching

Document = dict[str, Any]
RESULTS: Final = BUILD / "recovery/results.json"
QUICK: Final = {"initialIntervalSeconds": 0, "maxAttempts": 5}
SCAN_SECONDS: Final = 0.03
STEP_EVENTS: Final = ("training_resumed", "training_started")
IMPORTS: Final = "import time; t = time.time(); import torch, transformers, peft; print(time.time() - t)"
PARTS: Final = ("pod's end", "known", "next Job", "its process", "first step")
"""What ends each part: the API server shows that the pod has ended or is to go, for which a kubelet looks once a
second; the status says that the attempt ended; the next one's Job is there; its first process runs; it takes its first
step (of a trainer of one's own: the same as its process)."""


@dataclass
class Recovery:
    """Moments after one fault, in seconds since it."""

    moments: dict[str, float] = field(default_factory=dict)

    @property
    def whole(self) -> float:
        """From the fault to the first step."""
        return self.moments[PARTS[-1]]


@dataclass(frozen=True)
class Kind:
    """What runs, and what happens to it."""

    name: str
    spec: Callable[[Jobs, Document], Document]
    built_in: bool
    happens: Callable[[Jobs, str, TrainerProcess], object]


def _own(jobs: Jobs, _: Document) -> Document:
    return jobs.own("sh", "-c", "sleep 600 & wait", retry=QUICK)


def _built_in(_: Jobs, inputs: Document) -> Document:
    training = {"maxSteps": 100_000, "batchSize": 8, "sequenceLength": 64, "learningRate": 0.001}
    return {**inputs, "training": training, "checkpoint": {"everySteps": 100, "everySeconds": 1}, "retry": QUICK}


def _killed(_: Jobs, __: str, process: TrainerProcess) -> None:
    os.kill(process.pid, signal.SIGKILL)


def _pod_deleted(jobs: Jobs, name: str, _: TrainerProcess) -> None:
    jobs.kubectl("delete", "pod", "-l", f"perdure.dev/trainingjob={name}", "--force", "--grace-period=0")


KINDS: Final = (
    Kind("own trainer, killed", _own, False, _killed),
    Kind("own trainer, pod deleted", _own, False, _pod_deleted),
    Kind("built-in trainer, killed", _built_in, True, _killed),
    Kind("built-in trainer, pod deleted", _built_in, True, _pod_deleted),
)


class Witness:
    """When things were first seen, by kubectl's watches and in the machine's processes, in seconds since the epoch."""

    def __init__(self) -> None:
        self.ended: dict[str, float] = {}
        self.pods: dict[str, float] = {}
        self.jobs: dict[str, float] = {}
        self.processes: dict[tuple[str, int], float] = {}

    def take_trainingjob(self, event: Document) -> None:
        """An attempt has ended as soon as the status gives it a reason."""
        job = event["object"]
        attempts = (job.get("status") or {}).get("attempts") or []
        if attempts and attempts[0].get("reason"):
            self.ended.setdefault(job["metadata"]["name"], time.time())

    def take_pod(self, event: Document) -> None:
        """A pod of a first attempt has ended, or is to go."""
        pod = event["object"]
        labels = pod["metadata"].get("labels", {})
        over = event["type"] == "DELETED" or "deletionTimestamp" in pod["metadata"]
        states = [each["state"] for each in pod["status"].get("containerStatuses", ())]
        if labels.get("perdure.dev/attempt") == "1" and (over or any("terminated" in state for state in states)):
            self.pods.setdefault(labels["perdure.dev/trainingjob"], time.time())

    def take_job(self, event: Document) -> None:
        """A Job is there."""
        self.jobs.setdefault(event["object"]["metadata"]["name"], time.time())

    @contextmanager
    def looking(self, jobs: Kubectl) -> Iterator[None]:
        """Looks until the end of the block."""
        stop = threading.Event()

        def scan() -> None:
            while not stop.wait(SCAN_SECONDS):
                for process in trainer_processes():
                    self.processes.setdefault((process.name, process.attempt.number), time.time())

        thread = threading.Thread(target=scan, daemon=True)
        with (
            watching(jobs, "trainingjobs", self.take_trainingjob),
            watching(jobs, "pods", self.take_pod),
            watching(jobs, "jobs", self.take_job),
        ):
            thread.start()
            try:
                yield
            finally:
                stop.set()
                thread.join(10)


def first_step(jobs: Jobs, name: str) -> float | None:
    """When the second attempt began to train, by its own log."""
    selector = f"perdure.dev/trainingjob={name},perdure.dev/attempt=2"
    log = jobs.kubectl.run("logs", "-l", selector, "--tail=-1").stdout
    for line in log.splitlines():
        with_time = json.loads(line) if line.startswith("{") else {}
        if with_time.get("event") in STEP_EVENTS:
            return datetime.fromisoformat(with_time["timestamp"]).timestamp()
    return None


def measure(kind: Kind, name: str, jobs: Jobs, inputs: Document, witness: Witness) -> Recovery:
    """One job, one fault."""
    jobs.create(name, kind.spec(jobs, inputs))
    jobs.until(name, lambda job: phase(job) == "Running" and (not kind.built_in or step(job) > 0), 180)
    process = min((each for each in trainer_processes() if each.name == name), key=lambda each: each.pid)
    fault = time.time()
    kind.happens(jobs, name, process)
    wait_until(lambda: (name, 2) in witness.processes, 120, lambda: f"{name} has no second attempt")
    begun = witness.processes[name, 2]
    if kind.built_in:

        def trains() -> bool:
            nonlocal begun
            found = first_step(jobs, name)
            begun = found or begun
            return found is not None

        wait_until(trains, 120, lambda: f"{name} does not train again")
    wait_until(lambda: name in witness.ended, 60, lambda: f"the end of {name}'s first attempt was not told")
    wait_until(lambda: name in witness.pods, 60, lambda: f"the end of {name}'s first pod was not seen")
    seen = (witness.pods[name], witness.ended[name], witness.jobs[f"{name}-2"], witness.processes[name, 2], begun)
    jobs.kubectl("delete", "trainingjob", name, "--timeout=120s")
    return Recovery({part: moment - fault for part, moment in zip(PARTS, seen, strict=True)})


def imports(jobs: Jobs, image: str, times: int) -> list[float]:
    """Seconds that the built-in trainer's imports take in a pod of the same image."""
    found = []
    for number in range(times):
        name = f"imports-{number}"
        jobs.create(name, {"trainer": {"image": image, "command": ["python", "-c", IMPORTS]}})
        jobs.finished(name, 180)
        found.append(float(jobs.kubectl("logs", "-l", f"perdure.dev/trainingjob={name}", "--tail=1")))
        jobs.kubectl("delete", "trainingjob", name, "--timeout=60s")
    return found


def quantiles(values: Sequence[float]) -> str:
    """Median, and what 95 % are within."""
    p95 = statistics.quantiles(values, n=20, method="inclusive")[-1] if len(values) > 1 else values[0]
    return f"{statistics.median(values):6.1f} /{p95:6.1f}"


@dataclass
class Results:
    """What was measured so far."""

    conditions: str
    imports: list[float]
    """Seconds, one for each time."""
    recoveries: dict[str, list[Recovery]] = field(default_factory=dict)
    """By kind of fault."""

    @property
    def rounds(self) -> int:
        """How often each fault was measured."""
        return min((len(self.recoveries.get(kind.name, [])) for kind in KINDS), default=0)

    def save(self, path: Path) -> None:
        """Keeps them in a file."""
        raw = {name: [each.moments for each in recoveries] for name, recoveries in self.recoveries.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            json.dumps({"conditions": self.conditions, "imports": self.imports, "recoveries": raw}, indent=1)
        )


def load(path: Path) -> Results:
    """Those of a file.

    Raises:
        BenchError: there is none that can be read.
    """
    try:
        raw = json.loads(path.read_text())
        found = {name: [Recovery(moments) for moments in each] for name, each in raw["recoveries"].items()}
        return Results(raw["conditions"], raw["imports"], found)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BenchError(
            f"found no results in {path} ({error!r}), expected those of an earlier run; "
            "run it without --go-on and --show"
        ) from error


def table(results: Results) -> Iterator[str]:
    """For people."""
    found, imported = results.recoveries, results.imports
    yield results.conditions
    yield "Seconds since the fault, median / 95 % within:"
    yield f"{'':32}{'times':>6}" + "".join(f"{part:>17}" for part in PARTS)
    for name, recoveries in found.items():
        cells = "".join(f"{quantiles([each.moments[part] for each in recoveries]):>17}" for part in PARTS)
        yield f"{name:32}{len(recoveries):>6}{cells}"
    yield f"Imports of torch, transformers and peft alone, in a pod: {quantiles(imported)} s ({len(imported)} times)"
    for kind in KINDS:
        if kind.built_in and kind.name in found:
            beyond = [each.whole - statistics.median(imported) for each in found[kind.name]]
            yield f"{kind.name}: {quantiles(beyond)} s beyond the imports"


def measure_all(times: int, path: Path, *, go_on: bool) -> Results:
    """Every fault so many times, in turn; kept in a file after each turn."""
    system = Kubectl(kubeconfig_of_the_cluster(), SYSTEM)
    credentials = store_credentials(system)
    witness = Witness()
    with ExitStack() as stack:
        stores = stack.enter_context(installed_store(system, credentials))
        folder = stack.enter_context(TemporaryDirectory(prefix="bench-"))
        kubectl = stack.enter_context(working_namespace(system, f"bench-{os.getpid()}", credentials))
        jobs, inputs = Jobs(kubectl, loaded_base_image()), put_tiny_inputs(stores, Path(folder))
        pause = "no pause between attempts (retry.initialIntervalSeconds: 0)"
        conditions = f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} before; a tiny model; {pause}"
        stack.enter_context(witness.looking(kubectl))
        results = load(path) if go_on else Results(conditions, imports(jobs, trainer_image(system), min(times, 5)))
        for number in range(results.rounds, times):
            measured = [measure(kind, f"r{place}-{number}", jobs, inputs, witness) for place, kind in enumerate(KINDS)]
            for kind, recovery in zip(KINDS, measured, strict=True):
                results.recoveries.setdefault(kind.name, []).append(recovery)
            results.save(path)
            print(f"  {number + 1} of {times}", flush=True)
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; 0 when everything could be measured."""
    parser = argparse.ArgumentParser(prog="bench-recovery", description=__doc__)
    parser.add_argument("--times", type=int, default=20, help="faults of each kind (%(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="a file for what was measured (%(default)s)")
    parser.add_argument("--go-on", action="store_true", help="keep what the file has, and measure what is missing")
    parser.add_argument("--show", action="store_true", help="measure nothing: show what the file has")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        shown = load(options.results) if options.show else None
        results = shown or measure_all(options.times, options.results, go_on=options.go_on)
    except BenchError as error:
        print(f"bench-recovery: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        go_on = 'make bench-recovery BENCH="--go-on"'
        print(f"bench-recovery: interrupted, and cleaned up. Go on with: {go_on}", file=sys.stderr)
        return INTERRUPTED
    print("\n".join(table(results)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
