"""What is done to the cluster. Each fault is a context: it begins with what goes wrong and ends with its mending."""

from __future__ import annotations

import contextlib
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
from tests.chaos.plan import FaultPlan, choose
from tests.chaos.witness import TrainerProcess, trainer_processes
from tests.cluster.conftest import Kubectl, kill_pods
from tests.cluster.stores import BAD_STORES, bad_store
from tests.cluster.test_resilience import devcluster

Document = dict[str, Any]
NODES: Final = ("n1", "n2")


@dataclass(frozen=True)
class Scene:
    """Where faults are made."""

    system: Kubectl
    jobs: Kubectl
    cluster: Cluster
    stores: Stores
    image: str
    """Any with Python."""
    ours: Callable[[str], bool]
    """Whether a TrainingJob, by its uid, is one of this run."""
    checkpoints: Callable[[], list[str]]
    """Newest checkpoints of the jobs that train now."""
    hit: Callable[[TrainerProcess], None]
    """Is told of each trainer that is killed."""

    def first_processes(self) -> list[TrainerProcess]:
        """The first process of each of this run's training pods, in an order that does not change."""
        found = [process for process in trainer_processes() if self.ours(process.attempt.uid)]
        by_pod: dict[tuple[str, str], TrainerProcess] = {}
        for process in sorted(found, key=lambda each: each.pid):
            by_pod.setdefault((process.name, process.rank), process)
        return [by_pod[pod] for pod in sorted(by_pod)]


Fault = Callable[[Scene, random.Random], AbstractContextManager[str]]
"""Yields what was hit, for the table; "" when there was nothing to hit."""
Faults = Mapping[str, tuple[Fault, FaultPlan]]


# At once over


@contextmanager
def kill_trainer(scene: Scene, draw: random.Random) -> Iterator[str]:
    """SIGKILL to the first process of a training pod."""
    yield _kill(scene, choose(draw, scene.first_processes()))


@contextmanager
def kill_one_rank(scene: Scene, draw: random.Random) -> Iterator[str]:
    """SIGKILL to one pod of several."""
    ranks = [process for process in scene.first_processes() if process.name.startswith(("pair", "trains-two"))]
    yield _kill(scene, choose(draw, ranks))


def _kill(scene: Scene, process: TrainerProcess | None) -> str:
    if process is None:
        return ""
    scene.hit(process)
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    return f"{process.name} rank {process.rank}"


@contextmanager
def delete_pod(scene: Scene, draw: random.Random) -> Iterator[str]:
    """A training pod is deleted by hand, in its time."""
    yield _delete(scene.jobs, draw, "pods")


@contextmanager
def delete_job(scene: Scene, draw: random.Random) -> Iterator[str]:
    """An attempt's Job is deleted by hand, and its pods with it."""
    yield _delete(scene.jobs, draw, "jobs")


def _delete(jobs: Kubectl, draw: random.Random, what: str) -> str:
    found = jobs.run("get", what, "-o", "json")
    items = json.loads(found.stdout)["items"] if found.returncode == 0 else []
    live = [item for item in items if _is_live(item)]
    name = choose(draw, sorted(str(item["metadata"]["name"]) for item in live))
    if name is None:
        return ""
    jobs.run("delete", what, name, "--wait=false")
    return name


def _is_live(item: Document) -> bool:
    status = item.get("status") or {}
    return status.get("phase") == "Running" or bool(status.get("active"))


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
    if name:
        scene.system.run("delete", name, "--force", "--grace-period=0")
    yield name or ""


@contextmanager
def kill_temporal(scene: Scene, _: random.Random) -> Iterator[str]:
    """Temporal is killed, and comes back by itself."""
    kill_pods(scene.system, "temporal")
    yield "temporal"


@contextmanager
def cut_checkpoint(scene: Scene, draw: random.Random) -> Iterator[str]:
    """The newest checkpoint of a job that trains loses half of its optimizer, and its trainer is killed."""
    uri = choose(draw, sorted(scene.checkpoints()))
    if uri is None:
        yield ""
        return
    cut = _cut(scene.stores, parse_uri(uri))
    its = [process for process in scene.first_processes() if f"/runs/{process.attempt.uid}/" in uri]
    killed = _kill(scene, its[0] if its else None)
    yield f"{killed}, {uri.rpartition('/')[2]}" if cut and killed else ""


def _cut(stores: Stores, folder: StoreUri) -> bool:
    file = folder.child("optimizer.safetensors")
    try:
        content = stores.read(file, limit_bytes=2**24)
        stores.put(file, content[: len(content) // 2])
    except Exception:  # noqa: BLE001 - the store may be away, the checkpoint pruned: then there is nothing to cut
        return False
    return True


# For a while


@contextmanager
def kill_containerd(_: Scene, draw: random.Random) -> Iterator[str]:
    """A node's containerd dies; its containers run on."""
    node = draw.choice(NODES)
    devcluster("kill-component", f"{node}/containerd")
    yield node
    devcluster("start-component", f"{node}/containerd")


@contextmanager
def kill_kubelet(_: Scene, draw: random.Random) -> Iterator[str]:
    """A node's kubelet dies; its pods run on and reach everything."""
    node = draw.choice(NODES)
    devcluster("kill-component", f"{node}/kubelet")
    yield node
    devcluster("start-component", f"{node}/kubelet")


@contextmanager
def power_cut(_: Scene, draw: random.Random) -> Iterator[str]:
    """Every process of a node dies at once."""
    node = draw.choice(NODES)
    devcluster("kill-node", node)
    yield node
    devcluster("start-node", node)


@contextmanager
def partition(_: Scene, draw: random.Random) -> Iterator[str]:
    """A node's cable is cut; its pods run on."""
    node = draw.choice(NODES)
    devcluster("partition-node", node)
    yield node
    devcluster("heal-node", node)


@contextmanager
def freeze(_: Scene, draw: random.Random) -> Iterator[str]:
    """A node hangs, and goes on as if nothing had been."""
    node = draw.choice(NODES)
    devcluster("freeze-node", node)
    yield node
    devcluster("thaw-node", node)


@contextmanager
def temporal_away(scene: Scene, _: random.Random) -> Iterator[str]:
    """There is no Temporal."""
    scene.system.run("scale", "statefulset/perdure-temporal", "--replicas=0")
    yield "temporal"
    scene.system.run("scale", "statefulset/perdure-temporal", "--replicas=1")


@contextmanager
def restart_api_server(_: Scene, __: random.Random) -> Iterator[str]:
    """The API server is killed, and started again."""
    devcluster("kill-component", "kube-apiserver")
    yield "kube-apiserver"
    devcluster("start-component", "kube-apiserver")


@contextmanager
def pause_etcd(scene: Scene, _: random.Random) -> Iterator[str]:
    """The API server's store hangs."""
    identity = scene.cluster.daemons.running("etcd")
    if identity is None:
        yield ""
        return
    os.kill(identity.pid, signal.SIGSTOP)
    yield "etcd"
    os.kill(identity.pid, signal.SIGCONT)


@contextmanager
def failing_store(scene: Scene, draw: random.Random) -> Iterator[str]:
    """The object store's Service leads to one that does not work."""
    how = draw.choice(sorted(BAD_STORES))
    with bad_store(scene.system, scene.image, how):
        yield how


@contextmanager
def roll_workers(scene: Scene, _: random.Random) -> Iterator[str]:
    """Every worker is replaced, one after another."""
    scene.system.run("rollout", "restart", "deployment/perdure-worker")
    yield "workers"
    scene.system.run("rollout", "status", "deployment/perdure-worker", "--timeout=60s")


QUICK: Final[Mapping[str, tuple[Fault, FaultPlan]]] = {
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
LASTING: Final[Mapping[str, tuple[Fault, FaultPlan]]] = {
    "containerd killed": (kill_containerd, FaultPlan(3, (2, 8))),
    "kubelet killed": (kill_kubelet, FaultPlan(3, (5, 30))),
    "node without power": (power_cut, FaultPlan(4, (5, 25))),
    "node cut off": (partition, FaultPlan(4, (5, 40))),
    "node frozen": (freeze, FaultPlan(3, (5, 60))),
    "Temporal away": (temporal_away, FaultPlan(2, (20, 60))),
    "API server restarted": (restart_api_server, FaultPlan(3, (0, 5))),
    "etcd paused": (pause_etcd, FaultPlan(3, (2, 15))),
    "store does not work": (failing_store, FaultPlan(5, (5, 40))),
    "workers replaced": (roll_workers, FaultPlan(3, (0, 1))),
}
"""Those that last: one at a time."""
