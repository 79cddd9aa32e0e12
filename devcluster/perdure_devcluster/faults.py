"""Everything that can be done to a cluster: parts stopped, nodes cut off, frozen, killed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from perdure_devcluster import controlplane, network, node
from perdure_devcluster.cluster import Cluster
from perdure_devcluster.errors import DevclusterError
from perdure_devcluster.node import Power
from perdure_devcluster.plan import NodePlan


@dataclass(frozen=True)
class ComponentName:
    """A daemon of the control plane (no node), or one of a node's."""

    daemon: str
    node: NodePlan | None


def parse_component(cluster: Cluster, name: str) -> ComponentName:
    """Read ``kube-apiserver`` or ``n1/kubelet``."""
    where, slash, daemon = name.rpartition("/")
    if slash and daemon in node.DAEMONS:
        return ComponentName(daemon, cluster.node(where))
    if not slash and daemon in controlplane.COMPONENTS:
        return ComponentName(daemon, None)
    known = ", ".join([*controlplane.COMPONENTS, *(f"n1/{name}" for name in node.DAEMONS)])
    message = f'found component "{name}", expected one of {known}'
    raise DevclusterError(message)


def stop_component(cluster: Cluster, name: str) -> bool:
    """SIGTERM, for good; False when it did not run."""
    component = parse_component(cluster, name)
    if component.node:
        return cluster.nodes.stop_daemon(component.node, component.daemon)
    return cluster.daemons.stop(component.daemon)


def kill_component(cluster: Cluster, name: str) -> bool:
    """SIGKILL, for good; False when it did not run."""
    component = parse_component(cluster, name)
    if component.node:
        return cluster.nodes.kill_daemon(component.node, component.daemon)
    return cluster.daemons.kill(component.daemon)


def start_component(cluster: Cluster, name: str) -> bool:
    """Start a daemon; False when it runs."""
    component = parse_component(cluster, name)
    if component.node:
        _require_on(cluster, component.node)
        return cluster.nodes.start_daemon(component.node, component.daemon)
    if cluster.daemons.running(component.daemon):
        return False
    started = cluster.start_component(next(entry for entry in cluster.components if entry.name == component.daemon))
    if cluster.daemons.running("etcd") and cluster.daemons.running("kube-apiserver"):
        cluster.wait_for_api()
    return started


def restart_component(cluster: Cluster, name: str) -> None:
    """Stop a daemon if it runs, then start it."""
    stop_component(cluster, name)
    start_component(cluster, name)


def log(cluster: Cluster, name: str) -> Path:
    """The log of a component, or of a node's first process."""
    if name == controlplane.KWOK or any(name == entry.name for entry in cluster.node_plans):
        path = cluster.daemons.log(name)
    else:
        component = parse_component(cluster, name)
        path = (
            cluster.nodes.daemon_log(component.node, component.daemon)
            if component.node
            else cluster.daemons.log(component.daemon)
        )
    if not path.exists():
        message = f"found no log {path}, expected one once {name} was started; run: devcluster up"
        raise DevclusterError(message)
    return path


def kill_node(cluster: Cluster, target: NodePlan) -> bool:
    """Cut a node's power; False when it was off."""
    killed = cluster.nodes.kill(target)
    cluster.nodes.clean(target)
    cluster.route_services()
    return killed


def start_node(cluster: Cluster, target: NodePlan) -> bool:
    """Switch a node on and wait until it is Ready; False when it was on."""
    if cluster.nodes.init(target):
        return False
    began = datetime.now(UTC)
    cluster.start_node(target)
    if cluster.daemons.running("kube-apiserver"):
        cluster.wait_for_node(target, since=began)
    cluster.route_services()
    return True


def partition_node(cluster: Cluster, target: NodePlan) -> None:
    """Pull a node's cable."""
    _require_on(cluster, target)
    network.set_carrier(target, up=False)
    cluster.route_services()


def heal_node(cluster: Cluster, target: NodePlan) -> None:
    """Put a node's cable back."""
    _require_on(cluster, target)
    network.set_carrier(target, up=True)
    cluster.route_services()


def freeze_node(cluster: Cluster, target: NodePlan) -> None:
    """Stop every process of a node where it stands."""
    _require_on(cluster, target)
    cluster.cgroups.freeze(target.name)
    cluster.route_services()


def thaw_node(cluster: Cluster, target: NodePlan) -> None:
    """Let a frozen node's processes go on."""
    _require_on(cluster, target)
    cluster.cgroups.thaw(target.name)
    cluster.route_services()


def _require_on(cluster: Cluster, target: NodePlan) -> None:
    if cluster.nodes.power(target) is Power.OFF:
        message = f"node {target.name} is off; run: devcluster start-node {target.name}"
        raise DevclusterError(message)
