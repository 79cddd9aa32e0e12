"""Nodes that are not there: KWOK plays their kubelets, and a pod on one costs nothing but its object.

What it says of pods is in ``devcluster/kwok/stages.yaml``: one that is asked to ``sleep`` runs, any other of a Job's
runs and succeeds at once.
"""

from __future__ import annotations

from pathlib import Path

from perdure_devcluster import controlplane, objects, plan
from perdure_devcluster.api import Json
from perdure_devcluster.binaries import build_kwok
from perdure_devcluster.cluster import Cluster
from perdure_devcluster.controlplane import Component
from perdure_devcluster.errors import DevclusterError
from perdure_devcluster.paths import SOURCE
from perdure_devcluster.progress import step
from perdure_devcluster.waiting import wait_for

MAX_NODES = 1000
# What a pod needs to get there, and what keeps every other one away.
NODE_SELECTOR = {"type": "kwok"}
TOLERATION = {"key": "kwok.x-k8s.io/node", "operator": "Equal", "value": "fake", "effect": "NoSchedule"}
_TAINT = {key: TOLERATION[key] for key in ("key", "value", "effect")}
_STAGES = SOURCE / "kwok/stages.yaml"
_NODES = "/api/v1/nodes"
_ROOM = {"cpu": "1k", "memory": "1Ti", "pods": "10k", "ephemeral-storage": "1Ti", "nvidia.com/gpu": "1k"}


def have_nodes(cluster: Cluster, count: int) -> None:
    """As many of these nodes as ``count`` says, all of them Ready; with 0 KWOK ends too.

    Raises:
        DevclusterError: the cluster is not up, or the number makes no sense.
    """
    if not 0 <= count <= MAX_NODES:
        message = f"found {count} nodes for KWOK, expected 0 to {MAX_NODES}; choose another --nodes"
        raise DevclusterError(message)
    if not cluster.daemons.running("kube-apiserver"):
        raise DevclusterError("found no cluster that runs, expected one for KWOK's nodes; run: devcluster up")
    # Built before anybody has to wait for it: the first time that takes minutes.
    program = build_kwok(cluster.paths.cache) if count else None
    with cluster.locked():
        if program:
            cluster.start_component(component(program, cluster.paths.kubeconfig))
        _have([node(number) for number in range(1, count + 1)], cluster)
        if not program:
            cluster.daemons.stop(controlplane.KWOK)


def _have(wanted: list[Json], cluster: Cluster) -> None:
    """These and no others of KWOK's, once all of them are Ready."""
    count = len(wanted)
    with step(f"{count} nodes of KWOK's"):
        names = {manifest["metadata"]["name"] for manifest in wanted}
        there = {manifest["metadata"]["name"] for manifest in _nodes(cluster)}
        for name in there - names:
            cluster.api.delete(f"{_NODES}/{name}")
        for manifest in wanted:
            if manifest["metadata"]["name"] not in there:
                cluster.api.create(_NODES, manifest)
        wait_for(lambda: _all_ready(cluster, count), what=f"{count} nodes of KWOK's to be Ready", timeout_seconds=60)


def forget_dead_nodes(cluster: Cluster) -> None:
    """Delete nodes that are left of a KWOK that is no more: nobody would ever call them Ready."""
    if not cluster.daemons.running(controlplane.KWOK):
        for manifest in _nodes(cluster):
            cluster.api.delete(f"{_NODES}/{manifest['metadata']['name']}")


def node(number: int) -> Json:
    """One of these nodes, with room for ten thousand pods."""
    name = f"kwok-{number}"
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {**NODE_SELECTOR, "kubernetes.io/hostname": name, "kubernetes.io/os": "linux"},
            "annotations": {"kwok.x-k8s.io/node": "fake"},
        },
        "spec": {"taints": [_TAINT]},
        "status": {"capacity": _ROOM, "allocatable": _ROOM},
    }


def component(program: Path, kubeconfig: Path) -> Component:
    """How KWOK is started; as admin, for it is the kubelet of all these nodes, and lives no longer than a benchmark."""
    command = (
        program,
        f"--kubeconfig={kubeconfig}",
        f"--config={_STAGES}",
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
        f"--cidr={plan.KWOK_POD_NETWORK}",
        f"--node-ip={plan.KWOK_NODE_ADDRESS}",
        f"--node-lease-duration-seconds={controlplane.NODE_LEASE_SECONDS}",
    )
    return Component(controlplane.KWOK, command, inputs=(_STAGES,))


def _nodes(cluster: Cluster) -> list[Json]:
    (label,) = NODE_SELECTOR.items()
    return cluster.api.items(f"{_NODES}?labelSelector={label[0]}%3D{label[1]}")


def _all_ready(cluster: Cluster, count: int) -> bool:
    return sum(objects.node_is_ready(manifest) for manifest in _nodes(cluster)) == count
