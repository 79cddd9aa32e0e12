"""What is done to the cluster and is over at once. Each fault is a context: what lasts is in lasting.py."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from perdure_api.uri import StoreUri, parse_uri
from perdure_data.stores import Stores
from perdure_devcluster.cluster import Cluster
from tests.chaos.objects import Objects
from tests.chaos.plan import FaultPlan, choose
from tests.chaos.tally import Tally
from tests.chaos.witness import Attempt, TrainerProcess, trainer_processes
from tests.cluster.conftest import Kubectl, kill_pods

Document = dict[str, Any]
SEVERAL_NODES: Final = ("pair", "elsewhere", "trains-two")
"""Kinds of jobs."""


@dataclass(frozen=True)
class Scene:
    """Where faults are made."""

    system: Kubectl
    jobs: Kubectl
    cluster: Cluster
    stores: Stores
    image: str
    """Any with Python."""
    objects: Objects
    tally: Tally

    def first_processes(self) -> list[TrainerProcess]:
        """The first process of each of this run's training pods, in an order that does not change."""
        found = [process for process in trainer_processes() if self.objects.job_of(process.attempt.uid)]
        by_pod: dict[tuple[str, str], TrainerProcess] = {}
        for process in sorted(found, key=lambda each: each.pid):
            by_pod.setdefault((process.name, process.rank), process)
        return [by_pod[pod] for pod in sorted(by_pod)]


Fault = Callable[[Scene, random.Random], AbstractContextManager[str]]
"""Yields what was hit, for the table; "" when nothing was: there was nothing to hit, or it was refused."""
Faults = Mapping[str, tuple[Fault, FaultPlan]]


@contextmanager
def kill_trainer(scene: Scene, draw: random.Random) -> Iterator[str]:
    """SIGKILL to the first process of a training pod."""
    yield kill(scene, choose(draw, scene.first_processes()))


@contextmanager
def kill_one_rank(scene: Scene, draw: random.Random) -> Iterator[str]:
    """SIGKILL to one pod of several."""
    ranks = [process for process in scene.first_processes() if process.name.startswith(SEVERAL_NODES)]
    yield kill(scene, choose(draw, ranks))


def kill(scene: Scene, process: TrainerProcess | None) -> str:
    """What was killed; "": nothing, or it had ended by itself."""
    if process is None:
        return ""
    try:
        os.kill(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return ""
    scene.tally.killed(process.attempt)
    return f"{process.name} rank {process.rank}"


@contextmanager
def delete_pod(scene: Scene, draw: random.Random) -> Iterator[str]:
    """A training pod is deleted by hand, in its time."""
    yield delete(scene, draw, "pods")


@contextmanager
def delete_job(scene: Scene, draw: random.Random) -> Iterator[str]:
    """An attempt's Job is deleted by hand, and its pods with it."""
    yield delete(scene, draw, "jobs")


def delete(scene: Scene, draw: random.Random, what: str) -> str:
    """What was deleted of one kind; "": nothing."""
    found = scene.jobs.run("get", what, "-o", "json")
    items = json.loads(found.stdout)["items"] if found.returncode == 0 else []
    live = {str(item["metadata"]["name"]): item for item in items if _is_live(item)}
    name = choose(draw, sorted(live))
    if name is None:
        return ""
    done = scene.jobs.run("delete", what, name, "--wait=false")
    if attempt := _attempt_of(live[name]):
        # Also where the answer was bad: it may have been lost on its way.
        scene.tally.touched.add(attempt)
    return name if done.returncode == 0 else ""


def _is_live(item: Document) -> bool:
    status = item.get("status") or {}
    return status.get("phase") == "Running" or bool(status.get("active"))


def _attempt_of(item: Document) -> Attempt | None:
    labels = item["metadata"].get("labels") or {}
    uid, number = labels.get("perdure.dev/trainingjob-uid"), labels.get("perdure.dev/attempt", "")
    return Attempt(uid, int(number)) if uid and number.isdecimal() else None


@contextmanager
def kill_operator(scene: Scene, _: random.Random) -> Iterator[str]:
    """The operator is killed."""
    kill_pods(scene.system, "operator")
    yield "operator"


@contextmanager
def kill_worker(scene: Scene, draw: random.Random) -> Iterator[str]:
    """One worker of two is killed."""
    found = scene.system.run("get", "pods", "-l", "app.kubernetes.io/component=worker", "-o", "name")
    name = choose(draw, sorted(found.stdout.split()))
    if name is None:
        yield ""
        return
    killed = scene.system.run("delete", name, "--force", "--grace-period=0")
    yield name if killed.returncode == 0 else ""


@contextmanager
def kill_temporal(scene: Scene, _: random.Random) -> Iterator[str]:
    """Temporal is killed, and comes back by itself."""
    kill_pods(scene.system, "temporal")
    yield "temporal"


@contextmanager
def cut_checkpoint(scene: Scene, draw: random.Random) -> Iterator[str]:
    """The newest checkpoint of a job that trains loses half of its optimizer, and its trainer is killed."""
    uri = choose(draw, sorted(scene.objects.checkpoints()))
    if uri is None:
        yield ""
        return
    its = [process for process in scene.first_processes() if f"/runs/{process.attempt.uid}/" in uri]
    if not its:
        yield ""
        return
    # Also where the answer is bad: it may have been lost on its way.
    scene.tally.cut.add(its[0].attempt.uid)
    cut = _cut(scene.stores, parse_uri(uri))
    killed = kill(scene, its[0])
    yield f"{killed}, {uri.rpartition('/')[2]}" if cut and killed else ""


def _cut(stores: Stores, folder: StoreUri) -> bool:
    file = folder.child("optimizer.safetensors")
    try:
        content = stores.read(file, limit_bytes=2**24)
        stores.put(file, content[: len(content) // 2])
    except Exception:  # noqa: BLE001 - the store may be away, the checkpoint pruned: then there is nothing to cut
        return False
    return True


QUICK: Final[Faults] = {
    "trainer killed": (kill_trainer, FaultPlan(10)),
    "one rank killed": (kill_one_rank, FaultPlan(3)),
    "pod deleted": (delete_pod, FaultPlan(6)),
    "Job deleted": (delete_job, FaultPlan(3)),
    "operator killed": (kill_operator, FaultPlan(3)),
    "worker killed": (kill_worker, FaultPlan(4)),
    "Temporal killed": (kill_temporal, FaultPlan(2)),
    "checkpoint cut, trainer killed": (cut_checkpoint, FaultPlan(4)),
}
"""Those that are over as soon as they are done."""
