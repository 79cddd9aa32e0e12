"""Jobs of all kinds under faults of all kinds: `make chaos`, or `python -m tests.chaos --help`.

Faults and jobs come from one seed. Whether any job was lost, ran twice at once, left something or ended as it should
not have is found by witnesses of their own: kubectl's watch, and the processes of this machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from perdure_api.uri import parse_uri
from perdure_data.stores import Stores
from perdure_devcluster.cluster import Cluster, load_settings
from perdure_devcluster.paths import paths_from_environment
from tests.chaos.faults import LASTING, QUICK, Faults, Scene
from tests.chaos.kinds import KINDS, Document, Inputs
from tests.chaos.plan import Asked, FaultPlan, Planned, plan_faults, plan_jobs
from tests.chaos.verdict import Deserved, Evidence, Verdict, judge
from tests.chaos.witness import Attempt, Objects, Processes, TrainerProcess, scanning, trainer_processes
from tests.cluster.conftest import (
    SYSTEM,
    Kubectl,
    installed_store,
    kubeconfig_of_the_cluster,
    loaded_base_image,
    put_tiny_inputs,
    store_credentials,
    training_job,
    wait_until,
)
from tests.cluster.test_resilience import devcluster
from tests.cluster.watches import watching

ADAPTER_LIMIT_BYTES: Final = 2**24
PATIENCE_SECONDS: Final = 600.0
"""After the last fault is mended: by then every job has ended."""
GONE_SECONDS: Final = 90.0
"""After everything is deleted: by then nothing is left."""
LOOK_SECONDS: Final = 0.5


@dataclass
class Tally:
    """What was done."""

    begun: float = field(default_factory=time.monotonic)
    faults: Counter[str] = field(default_factory=Counter)
    hits: dict[Attempt, float] = field(default_factory=dict)
    """When a trainer was killed, in monotonic seconds."""

    def say(self, what: str) -> None:
        sys.stdout.write(f"{time.monotonic() - self.begun:7.1f} s  {what}\n")
        sys.stdout.flush()


class Chaos:
    """One run."""

    def __init__(self, scene: Scene, objects: Objects, inputs: Inputs, tally: Tally, seed: str) -> None:
        self._scene = scene
        self._objects = objects
        self._inputs = inputs
        self._tally = tally
        self._seed = seed
        self._over = threading.Event()
        self.deserved: dict[str, Deserved] = {}

    def undisturbed(self) -> dict[str, str]:
        """The hashes of the adapters of runs that nothing happens to, by kind."""
        names = {kind: f"undisturbed-{kind}" for kind, each in KINDS.items() if each.built_in}
        for kind, name in names.items():
            self._create(name, KINDS[kind].spec(self._inputs, random.Random(name)))
        wait_until(
            lambda: set(names.values()) <= self._objects.sights.keys() and not self._objects.unfinished,
            PATIENCE_SECONDS,
            lambda: f"not finished without any fault: {self._objects.unfinished}",
        )
        return {kind: self.adapter(name) or "" for kind, name in names.items()}

    def ask(self, wishes: Sequence[Asked], at_once: int, seconds: float, adapters: Mapping[str, str]) -> None:
        """Asks for jobs, spread over some time."""
        begun = time.monotonic()
        for number, asked in enumerate(wishes):
            kind, due = KINDS[asked.kind], begun + seconds * number / len(wishes)
            self._wait(lambda due=due: time.monotonic() >= due and len(self._objects.unfinished) < at_once)  # type: ignore[misc]
            self.deserved[asked.name] = Deserved(kind.phase, kind.reason, adapters.get(asked.kind))
            self._create(asked.name, kind.spec(self._inputs, random.Random(asked.seed)))
            if kind.suspensions:
                threading.Thread(target=self._suspend, args=(asked.name, kind.suspensions), daemon=True).start()

    @contextmanager
    def faults(self, *lanes: tuple[Sequence[Planned], Faults]) -> Iterator[None]:
        """Lanes of faults while the context lasts: what has begun is mended."""
        threads = [threading.Thread(target=self._lane, args=lane) for lane in lanes]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _lane(self, planned: Sequence[Planned], faults: Faults) -> None:
        for each in planned:
            if self._over.is_set():
                return
            fault, _ = faults[each.fault]
            try:
                with fault(self._scene, random.Random(each.seed)) as hit:
                    if hit:
                        self._tally.faults[each.fault] += 1
                        lasts = f" for {each.hold_seconds:.0f} s" if each.hold_seconds else ""
                        self._tally.say(f"{each.fault}: {hit}{lasts}")
                    self._over.wait(each.hold_seconds)
            except Exception as error:  # noqa: BLE001 - a fault that cannot be made now is none
                self._tally.say(f"{each.fault}: not now ({str(error)[:200]})")
            self._over.wait(each.pause_seconds)

    def _create(self, name: str, spec: Document) -> None:
        document = training_job(name, spec)
        while True:
            result = self._scene.jobs.run("create", "-f", "-", document=document)
            if result.returncode == 0 or "AlreadyExists" in result.stderr:
                return
            time.sleep(LOOK_SECONDS)

    def _suspend(self, name: str, times: int) -> None:
        def phase() -> str:
            sights = self._objects.sights.get(name)
            return "" if not sights else "over" if sights[-1].terminal else sights[-1].phase

        for _ in range(times):
            self._wait(lambda: phase() in {"Running", "over"})
            self._patch(name, suspend=True)
            self._wait(lambda: phase() in {"Suspended", "over"})
            self._patch(name, suspend=False)

    def _patch(self, name: str, *, suspend: bool) -> None:
        patch = json.dumps({"spec": {"suspend": suspend}})
        while self._scene.jobs.run("patch", "trainingjob", name, "--type=merge", "-p", patch).returncode != 0:
            time.sleep(LOOK_SECONDS)

    def _wait(self, holds: Callable[[], bool]) -> None:
        while not holds():
            time.sleep(LOOK_SECONDS)

    def adapter(self, name: str) -> str | None:
        """The hash of a job's adapter."""
        result = self._objects.sights[name][-1].result
        if not result:
            return None
        uri = parse_uri(f"{result}/adapter_model.safetensors")
        return hashlib.sha256(self._scene.stores.read(uri, limit_bytes=ADAPTER_LIMIT_BYTES)).hexdigest()


def left_behind(jobs: Kubectl, ours: Callable[[str], bool]) -> list[str]:
    """What is still there of a run whose TrainingJobs were deleted."""
    found = jobs.run("get", "trainingjobs,jobs,pods,services", "-o", "name")
    processes = [f"process {each.pid} of {each.name}" for each in trainer_processes() if ours(each.attempt.uid)]
    return [*found.stdout.split(), *processes]


def table(deserved: Mapping[str, Deserved], objects: Objects, tally: Tally, processes: Processes) -> Iterator[str]:
    """What was tried and what came of it."""
    yield f"{'jobs':14}{'asked':>7}{'as deserved':>13}{'attempts':>10}"
    for kind in KINDS:
        names = [name for name in deserved if name.rpartition("-")[0] == kind]
        ends = [objects.sights[name][-1] for name in names if objects.sights.get(name)]
        right = sum((end.phase, end.reason) == (KINDS[kind].phase, KINDS[kind].reason) for end in ends)
        yield f"{kind:14}{len(names):>7}{right:>13}{sum(end.started for end in ends):>10}"
    yield ""
    yield f"{'faults':32}{'times':>6}"
    for fault in [*QUICK, *LASTING]:
        yield f"{fault:32}{tally.faults[fault]:>6}"
    yield ""
    yield from _recoveries(tally, processes)


def _recoveries(tally: Tally, processes: Processes) -> Iterator[str]:
    seconds = sorted(
        again - at
        for attempt, at in tally.hits.items()
        if (again := processes.first_seen.get(Attempt(attempt.uid, attempt.number + 1))) is not None
    )
    if len(seconds) > 1:
        p95 = statistics.quantiles(seconds, n=20)[-1]
        yield (
            f"from a trainer's death to the next attempt's process: median {statistics.median(seconds):.1f} s, "
            f"95 % within {p95:.1f} s, longest {seconds[-1]:.1f} s ({len(seconds)} times, among all the other faults)"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints what happens, the table and the verdict; 0 when nothing was lost, doubled, left or wrong."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--seed", default="1", help="of jobs and faults (%(default)s)")
    parser.add_argument("--minutes", type=float, default=30, help="how long faults are made (%(default)s)")
    parser.add_argument("--jobs", type=int, default=220, help="how many (%(default)s)")
    parser.add_argument("--at-once", type=int, default=12, help="how many of them at the same time (%(default)s)")
    options = parser.parse_args(arguments)
    kubeconfig = kubeconfig_of_the_cluster()
    system = Kubectl(kubeconfig, SYSTEM)
    jobs = Kubectl(kubeconfig, f"chaos-{os.getpid()}")
    credentials = store_credentials(system)
    with ExitStack() as stack:
        stores = stack.enter_context(installed_store(system, credentials))
        folder = stack.enter_context(TemporaryDirectory(prefix="chaos-"))
        jobs("create", "namespace", jobs.namespace)
        stack.callback(jobs.run, "delete", "namespace", jobs.namespace, "--wait=false")
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "perdure-object-store"}}
        jobs("create", "-f", "-", document={**secret, "data": credentials})
        inputs = Inputs(loaded_base_image(), put_tiny_inputs(stores, Path(folder)))
        verdict, faults = _run(options, system, jobs, stores, inputs)
    for problem in [*verdict.lost, *verdict.doubled, *verdict.orphans, *verdict.wrong]:
        sys.stdout.write(f"  {problem}\n")
    sys.stdout.write(f"seed {options.seed}: {verdict.line(faults)}\n")
    return 0 if verdict.clean else 1


def _run(
    options: argparse.Namespace, system: Kubectl, jobs: Kubectl, stores: Stores, inputs: Inputs
) -> tuple[Verdict, int]:
    tally, objects, paths = Tally(), Objects(), paths_from_environment(os.environ)

    def ours(uid: str) -> bool:
        return uid in objects.uids.values()

    def hit(process: TrainerProcess) -> None:
        tally.hits.setdefault(process.attempt, time.monotonic())

    processes = Processes(ours)
    scene = Scene(
        system, jobs, Cluster(paths, load_settings(paths)), stores, inputs.image, ours, objects.checkpoints, hit
    )
    chaos = Chaos(scene, objects, inputs, tally, options.seed)
    with watching(jobs, "trainingjobs", objects.take), scanning(processes):
        tally.say("runs that nothing happens to ...")
        adapters = chaos.undisturbed()
        seconds = 60 * options.minutes
        tally.begun = time.monotonic()
        lanes = [
            (plan_faults(f"{options.seed} quick", seconds, _plans(QUICK), (2, 12)), QUICK),
            (plan_faults(f"{options.seed} lasting", seconds, _plans(LASTING), (4, 15)), LASTING),
        ]
        until = time.monotonic() + seconds
        with chaos.faults(*lanes):
            wishes = plan_jobs(options.seed, options.jobs, {name: kind.weight for name, kind in KINDS.items()})
            chaos.ask(wishes, options.at_once, seconds * 0.9, adapters)
            while objects.unfinished and time.monotonic() < until:
                time.sleep(LOOK_SECONDS)
        devcluster("up")
        tally.say("all is mended; waiting for the rest")
        _wait(lambda: not objects.unfinished, PATIENCE_SECONDS)
        found = {name: digest for name in chaos.deserved if (digest := chaos.adapter(name))}
        jobs.run("delete", "trainingjobs", "--all", "--wait=false")
        _wait(lambda: not left_behind(jobs, ours), GONE_SECONDS)
    own = {name for name in chaos.deserved if not KINDS[name.rpartition("-")[0]].built_in}
    evidence = Evidence(
        deserved=chaos.deserved,
        sights=objects.sights,
        adapters=found,
        # What our own trainer does on a lost node counts no more: its adapter and its end are looked at instead.
        overlaps=[overlap for overlap in processes.overlaps if overlap.job in own],
        left=left_behind(jobs, ours),
    )
    sys.stdout.write("\n" + "\n".join(table(chaos.deserved, objects, tally, processes)) + "\n")
    return judge(evidence), tally.faults.total()


def _plans(faults: Faults) -> dict[str, FaultPlan]:
    return {name: plan for name, (_, plan) in faults.items()}


def _wait(holds: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    raise SystemExit(main())
