"""What `devcluster status` says."""

from __future__ import annotations

from perdure_devcluster import controlplane, objects, plan
from perdure_devcluster.cluster import Cluster
from perdure_devcluster.errors import Unreachable
from perdure_devcluster.node import DAEMONS, Power


def report(cluster: Cluster) -> str:
    """One line for each daemon and each node."""
    lines = [f"state       {cluster.paths.state}", f"kubeconfig  {cluster.paths.kubeconfig}"]
    lines += [f"API server  {plan.API_SERVER}", f"registry    {plan.REGISTRY}", ""]
    for name in controlplane.COMPONENTS:
        identity = cluster.daemons.running(name)
        lines.append(f"{name:24} {f'running, pid {identity.pid}' if identity else 'stopped'}")
    if identity := cluster.daemons.running(controlplane.KWOK):
        lines.append(f"{controlplane.KWOK:24} running, pid {identity.pid}")
    lines.append("")
    for node in cluster.node_plans:
        init = cluster.nodes.init(node)
        pid = f", pid {init.pid}" if init else ""
        power = cluster.nodes.power(node)
        lines.append(f"{node.name:24} {power.value}{pid}{_readiness(cluster, node.name, power)}")
        lines += [
            f"{node.name + '/' + name:24} stopped"
            for name in DAEMONS
            if power is not Power.OFF and cluster.nodes.daemon(node, name) is None
        ]
    return "\n".join(lines)


def _readiness(cluster: Cluster, name: str, power: Power) -> str:
    if not cluster.daemons.running("kube-apiserver"):
        return ""
    try:
        manifest = cluster.api.find(f"/api/v1/nodes/{name}")
    except Unreachable:
        return ", API server does not answer"
    if manifest is None:
        return "" if power is Power.OFF else ", not registered"
    return ", Ready" if objects.node_is_ready(manifest) else ", NotReady"
