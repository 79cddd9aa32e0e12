"""What a node's daemons are told: rendered here, read by ``node_init`` inside the node."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perdure_devcluster import plan
from perdure_devcluster.controlplane import NODE_LEASE_SECONDS
from perdure_devcluster.credentials import Credentials
from perdure_devcluster.paths import PYTHON
from perdure_devcluster.plan import NodePlan

CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
# Inside a node every daemon finds its data in the usual place; the node's own
# folder is bound there.
BOUND_FOLDERS = {
    "/var/lib/containerd": "containerd",
    "/var/lib/kubelet": "kubelet",
    "/var/lib/cni": "cni",
    "/var/log/pods": "log-pods",
    "/var/log/containers": "log-containers",
}


@dataclass(frozen=True)
class Share:
    """How much of the machine one node offers to pods."""

    cpus: int
    memory_bytes: int


def share_of_machine(cpus: int, memory_bytes: int, nodes: int, control_plane_bytes: int) -> Share:
    """What is left beside the control plane, in equal parts; never less than one CPU.

    CPU is shared by weight, so the control plane gets its part without a reserve.
    """
    memory = max(memory_bytes - control_plane_bytes, memory_bytes // 2) // nodes
    return Share(cpus=max(1, cpus // nodes), memory_bytes=memory)


def containerd_config(folder: Path, sandbox_image: str) -> str:
    """The config.toml of containerd."""
    return f"""\
version = 2

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{sandbox_image}"
  # Without CAP_SYS_RESOURCE a container cannot lower its OOM score, and does
  # not start ("can't get final child's PID from pipe: EOF").
  restrict_oom_score_adj = true
  disable_apparmor = true
  max_concurrent_downloads = 8

  [plugins."io.containerd.grpc.v1.cri".containerd]
    # The layers are in the registry; unpacked and packed would be twice the disk.
    discard_unpacked_layers = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/etc/cni"

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{folder}/etc/registries"
"""


def registry_hosts() -> str:
    """hosts.toml for every registry name there is: all lead to the local one.

    So an image keeps the name that it has in the world, and nothing is ever
    asked of the outside.
    """
    return f"""\
server = "http://{plan.REGISTRY}"

[host."http://{plan.REGISTRY}"]
  capabilities = ["pull", "resolve"]
"""


def cni_config(node: NodePlan) -> str:
    """A cable from each pod to its node, routed; no bridge, no address translation."""
    return json.dumps(
        {
            "cniVersion": "1.0.0",
            "name": "pods",
            "plugins": [
                {
                    "type": "ptp",
                    # Pods keep their own source address, as on a real pod network.
                    "ipMasq": False,
                    "ipam": {
                        "type": "host-local",
                        "ranges": [[{"subnet": node.pod_network}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                },
                {"type": "portmap", "capabilities": {"portMappings": True}},
            ],
        },
        indent=2,
    )


def kubelet_config(node: NodePlan, folder: Path, authority: Path, share: Share, cpus: int, memory_bytes: int) -> str:
    """KubeletConfiguration of a node on a machine of ``cpus`` and ``memory_bytes``."""
    return json.dumps(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": node.address,
            "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
            "cgroupDriver": "cgroupfs",
            "failSwapOn": False,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(authority)},
            },
            "authorization": {"mode": "Webhook"},
            "clusterDNS": [plan.DNS_SERVICE_ADDRESS],
            "clusterDomain": plan.CLUSTER_DOMAIN,
            # Empty: pods with the Default DNS policy must not ask the machine's.
            "resolvConf": str(folder / "etc/resolv.conf"),
            "nodeLeaseDurationSeconds": NODE_LEASE_SECONDS,
            # Whether its status has changed is looked at this often: a node that
            # was cut off is Ready again soon, not 10 s, after it is back. What has
            # not changed is reported at the usual pace.
            "nodeStatusUpdateFrequency": "2s",
            "nodeStatusReportFrequency": "1m",
            # Each node sees the whole machine; what the others offer is reserved.
            "systemReserved": {
                "cpu": str(cpus - share.cpus) if cpus > share.cpus else "0",
                "memory": str(memory_bytes - share.memory_bytes),
            },
            "evictionHard": {
                "memory.available": "100Mi",
                "nodefs.available": "1%",
                "nodefs.inodesFree": "1%",
                "imagefs.available": "1%",
            },
            # Images are small beside the machine's disk, and pulled once.
            "imageGCHighThresholdPercent": 100,
            "serializeImagePulls": False,
            "registryPullQPS": 0,
            "eventRecordQPS": 0,
            "kubeAPIQPS": 500,
            "kubeAPIBurst": 1000,
        },
        indent=2,
    )


@dataclass(frozen=True)
class NodeDaemon:
    """A daemon inside a node; ``socket`` must answer before the next one starts."""

    name: str
    command: tuple[str, ...]
    socket: str = ""


def node_daemons(node: NodePlan, folder: Path, binaries: Path, credentials: Credentials) -> list[NodeDaemon]:
    """containerd, network-policies, kubelet and kube-proxy, in the order of their start."""
    return [
        NodeDaemon(
            "containerd",
            ("/usr/bin/containerd", "--config", f"{folder}/etc/containerd.toml"),
            socket=CONTAINERD_SOCKET,
        ),
        # Before the kubelet, which starts pods again as soon as it runs.
        NodeDaemon(
            "network-policies",
            (str(PYTHON), "-m", "perdure_devcluster.policies.agent", node.name, str(credentials.folder)),
        ),
        NodeDaemon(
            "kubelet",
            (
                f"{binaries}/kubelet",
                f"--config={folder}/etc/kubelet.json",
                f"--kubeconfig={credentials.kubeconfig(f'kubelet-{node.name}')}",
                f"--hostname-override={node.name}",
                f"--node-ip={node.address}",
                f"--node-labels=perdure.dev/devcluster-node={node.number}",
            ),
        ),
        NodeDaemon(
            "kube-proxy",
            (
                f"{binaries}/kube-proxy",
                f"--kubeconfig={credentials.kubeconfig('kube-proxy')}",
                f"--hostname-override={node.name}",
                "--proxy-mode=nftables",
                f"--cluster-cidr={plan.POD_NETWORK}",
                # It may not write conntrack's settings, which are the machine's.
                "--conntrack-max-per-core=0",
                "--conntrack-min=0",
                "--conntrack-tcp-timeout-established=0",
                "--conntrack-tcp-timeout-close-wait=0",
            ),
        ),
    ]


def init_spec(node: NodePlan, folder: Path, neighbours: list[NodePlan], daemons: list[NodeDaemon]) -> dict[str, Any]:
    """What ``node_init`` has to do, as plain data."""
    return {
        "name": node.name,
        "address": f"{node.address}/{plan.NODE_PREFIX_LENGTH}",
        "routes": [{"to": other.pod_network, "via": other.address} for other in neighbours if other != node],
        "binds": {target: str(folder / name) for target, name in BOUND_FOLDERS.items()},
        "stopped": str(folder / "stopped"),
        "logs": str(folder / "logs"),
        "daemons": [
            {"name": daemon.name, "command": list(daemon.command), "socket": daemon.socket} for daemon in daemons
        ],
        "environment": {
            # A cut connection to the API server is noticed after 5 s, not 45 s.
            "HTTP2_READ_IDLE_TIMEOUT_SECONDS": "3",
            "HTTP2_PING_TIMEOUT_SECONDS": "2",
        },
    }
