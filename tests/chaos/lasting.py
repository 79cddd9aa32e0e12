"""What is done to the cluster for a while. Each fault is a context: it begins with what goes wrong and ends with its
mending.

No clock is moved: the nodes share that of the machine. No disk of a node is filled: it is the machine's. A job that
writes more than it may is among kinds.py.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.chaos.faults import Fault, Faults, Scene
from tests.chaos.plan import FaultPlan
from tests.cluster.commands import devcluster
from tests.cluster.stores import BAD_STORES, FULL, bad_store

NODES: Final = ("n1", "n2")
AGAIN_SECONDS: Final = 1.0


def on_a_node(breaks: str, mends: str, component: str = "") -> Fault:
    """A node, or one of its components, is broken by one command of the development cluster and mended by another."""

    @contextmanager
    def fault(_: Scene, draw: random.Random) -> Iterator[str]:
        node = draw.choice(NODES)
        devcluster(breaks, f"{node}{component}")
        yield node
        devcluster(mends, f"{node}{component}")

    return fault


kill_containerd = on_a_node("kill-component", "start-component", "/containerd")
"""A node's containerd dies; its containers run on."""
kill_kubelet = on_a_node("kill-component", "start-component", "/kubelet")
"""A node's kubelet dies; its pods run on and reach everything."""
power_cut = on_a_node("kill-node", "start-node")
"""Every process of a node dies at once."""
partition = on_a_node("partition-node", "heal-node")
"""A node's cable is cut; its pods run on."""
freeze = on_a_node("freeze-node", "thaw-node")
"""A node hangs, and goes on as if nothing had been."""


@contextmanager
def temporal_away(scene: Scene, _: random.Random) -> Iterator[str]:
    """There is no Temporal."""
    stopped = scene.system.run("scale", "statefulset/perdure-temporal", "--replicas=0")
    yield "temporal" if stopped.returncode == 0 else ""
    while scene.system.run("scale", "statefulset/perdure-temporal", "--replicas=1").returncode != 0:
        time.sleep(AGAIN_SECONDS)


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
    how = draw.choice(sorted(set(BAD_STORES) - {FULL}))
    with bad_store(scene.system, scene.image, how):
        yield how


@contextmanager
def full_store(scene: Scene, _: random.Random) -> Iterator[str]:
    """The object store's disk is full: what is there can be read, and nothing more can be written."""
    with bad_store(scene.system, scene.image, FULL):
        yield FULL


@contextmanager
def roll_workers(scene: Scene, _: random.Random) -> Iterator[str]:
    """Every worker is replaced, one after another."""
    begun = scene.system.run("rollout", "restart", "deployment/perdure-worker")
    yield "workers" if begun.returncode == 0 else ""
    scene.system.run("rollout", "status", "deployment/perdure-worker", "--timeout=60s")


LASTING: Final[Faults] = {
    "containerd killed": (kill_containerd, FaultPlan(3, (2, 8))),
    "kubelet killed": (kill_kubelet, FaultPlan(3, (5, 30))),
    "node without power": (power_cut, FaultPlan(4, (5, 25))),
    "node cut off": (partition, FaultPlan(4, (5, 40))),
    "node frozen": (freeze, FaultPlan(3, (5, 60))),
    "Temporal away": (temporal_away, FaultPlan(2, (20, 60))),
    "API server restarted": (restart_api_server, FaultPlan(3, (0, 5))),
    "etcd paused": (pause_etcd, FaultPlan(3, (2, 15))),
    "store does not work": (failing_store, FaultPlan(4, (5, 40))),
    "store's disk full": (full_store, FaultPlan(2, (5, 40))),
    "workers replaced": (roll_workers, FaultPlan(3, (0, 1))),
}
"""Those that last: one at a time."""
NODE_FAULTS: Final = frozenset(
    {"containerd killed", "kubelet killed", "node without power", "node cut off", "node frozen"}
)
"""Those that end attempts on a node, which is what they yield."""
STORE_FAULTS: Final = frozenset({"store does not work", "store's disk full"})
"""Those that may end attempts of the built-in trainer."""
