"""The address plan: which address, port, name and MAC belongs to what.

Everything is in 198.18.0.0/15 (RFC 2544, benchmarking), which is neither
private nor routed: it collides with no office network, VPN or container bridge.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from perdure_devcluster.errors import DevclusterError

BRIDGE = "perdure0"
# A bridge without a MAC of its own takes over a port's: killing that node would
# change the address of the API server under all other nodes.
BRIDGE_MAC = "02:00:c6:12:80:01"
HOST_ADDRESS = "198.18.128.1"
NODE_PREFIX_LENGTH = 24
NODE_NETWORK = f"198.18.128.0/{NODE_PREFIX_LENGTH}"

POD_NETWORK = "198.18.0.0/17"
# Of pods on nodes that are not there (KWOK's); nothing leads to them.
KWOK_POD_NETWORK = "198.18.64.0/18"
KWOK_NODE_ADDRESS = "198.18.128.250"
SERVICE_NETWORK = "198.19.0.0/24"
KUBERNETES_SERVICE_ADDRESS = "198.19.0.1"
DNS_SERVICE_ADDRESS = "198.19.0.10"
CLUSTER_DOMAIN = "cluster.local"

API_PORT = 6443
API_SERVER = f"https://{HOST_ADDRESS}:{API_PORT}"
REGISTRY_PORT = 5000
REGISTRY = f"{HOST_ADDRESS}:{REGISTRY_PORT}"
DNS_PORT = 10053
DNS_HEALTH_PORT = 10054
DNS_READY_PORT = 10055
# etcd speaks plain HTTP here, so it listens where pods cannot reach it.
ETCD_CLIENT = "127.0.0.1:12379"
ETCD_PEER = "127.0.0.1:12380"

# The API server reads its token file once, so every node that could join has a
# token from the start.
MAX_NODES = 20


@dataclass(frozen=True)
class NodePlan:
    """One node's share of the address plan; nodes are numbered from 1."""

    number: int

    @property
    def name(self) -> str:
        """The Kubernetes node name, also the host name inside the node."""
        return f"n{self.number}"

    @property
    def address(self) -> str:
        """The node's own address, on the bridge's network."""
        return f"198.18.128.{10 + self.number}"

    @property
    def pod_network(self) -> str:
        """The addresses of this node's pods."""
        return f"198.18.{self.number}.0/24"

    @property
    def mac(self) -> str:
        """A fixed MAC, so that neighbours need not learn it again after a restart."""
        return f"02:00:c6:12:80:{10 + self.number:02x}"

    @property
    def host_link(self) -> str:
        """The machine's end of the node's cable."""
        return f"perdure-n{self.number}"


def plan_nodes(count: int) -> list[NodePlan]:
    """Nodes 1 to ``count``."""
    if not 1 <= count <= MAX_NODES:
        message = f"found {count} nodes, expected 1 to {MAX_NODES}; choose another --nodes"
        raise DevclusterError(message)
    return [NodePlan(number) for number in range(1, count + 1)]


def parse_node(name: str, count: int) -> NodePlan:
    """Read a node's name, ``n2`` or ``2``, of a cluster with ``count`` nodes."""
    match = re.fullmatch(r"n?([1-9][0-9]?)", name)
    if match is None or int(match[1]) > count:
        known = ", ".join(node.name for node in plan_nodes(count))
        message = f'found "{name}", expected a node of this cluster: {known}'
        raise DevclusterError(message)
    return NodePlan(int(match[1]))
