"""What the daemons are told."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from perdure_devcluster import controlplane, credentials, network, node, node_config, objects, plan
from perdure_devcluster.binaries import Binaries
from perdure_devcluster.credentials import Credentials
from perdure_devcluster.errors import DevclusterError
from perdure_devcluster.paths import Paths, paths_from_environment
from perdure_devcluster.plan import NodePlan

GIB = 1024**3
FOLDER = Path("/state/nodes/n1")


def kubelet(cpus: int, nodes: int) -> dict[str, Any]:
    share = node_config.share_of_machine(cpus, 24 * GIB, nodes, 2 * GIB)
    text = node_config.kubelet_config(NodePlan(1), FOLDER, Path("/ca"), share, cpus, 24 * GIB)
    document: dict[str, Any] = json.loads(text)
    return document


def api_server_flags(tmp_path: Path) -> tuple[str, ...]:
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "tokens.csv").write_text("")
    everything = controlplane.components(Paths(tmp_path, tmp_path), Binaries(tmp_path), Credentials(folder))
    return next(tuple(map(str, entry.command)) for entry in everything if entry.name == "kube-apiserver")


@pytest.mark.parametrize(("cpus", "nodes"), [(2, 2), (8, 3), (1, 2), (64, 20)])
def test_nodes_together_offer_no_more_memory_than_the_machine_has(cpus: int, nodes: int) -> None:
    share = node_config.share_of_machine(cpus, 24 * GIB, nodes, 2 * GIB)
    assert share.memory_bytes * nodes <= 24 * GIB
    assert share.cpus * nodes <= max(cpus, nodes)


def test_a_node_reserves_what_the_others_offer() -> None:
    assert kubelet(cpus=8, nodes=2)["systemReserved"] == {"cpu": "4", "memory": str(13 * GIB)}


def test_a_node_on_one_cpu_still_offers_it() -> None:
    assert kubelet(cpus=1, nodes=2)["systemReserved"]["cpu"] == "0"


def test_the_lease_is_not_longer_than_the_grace_period() -> None:
    """Nodes flap otherwise: the kubelet renews at a quarter of the lease."""
    assert kubelet(cpus=2, nodes=2)["nodeLeaseDurationSeconds"] <= controlplane.NODE_GRACE_SECONDS


def test_a_kubelet_lets_nobody_in_without_asking_the_api_server() -> None:
    document = kubelet(cpus=2, nodes=2)
    assert document["authentication"]["anonymous"] == {"enabled": False}
    assert document["authorization"] == {"mode": "Webhook"}


def test_containerd_asks_the_local_registry_for_every_image() -> None:
    document = tomllib.loads(node_config.registry_hosts())
    assert document["server"] == "http://198.18.128.1:5000"
    config = tomllib.loads(node_config.containerd_config(FOLDER, "r/pause:1"))
    cri = config["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["registry"]["config_path"] == "/state/nodes/n1/etc/registries"
    assert cri["sandbox_image"] == "r/pause:1"


def test_a_node_has_a_route_to_every_other_nodes_pods_and_to_nowhere_else() -> None:
    nodes = plan.plan_nodes(3)
    spec = node_config.init_spec(nodes[0], FOLDER, nodes, [])
    assert spec["routes"] == [
        {"to": "198.18.2.0/24", "via": "198.18.128.12"},
        {"to": "198.18.3.0/24", "via": "198.18.128.13"},
    ]


def test_a_pods_addresses_come_from_its_nodes_network() -> None:
    document = json.loads(node_config.cni_config(NodePlan(7)))
    assert document["plugins"][0]["ipam"]["ranges"] == [[{"subnet": "198.18.7.0/24"}]]


def test_a_nodes_daemons_are_those_that_can_be_named_and_its_rules_come_before_its_pods() -> None:
    daemons = node_config.node_daemons(NodePlan(1), FOLDER, Path("/bin"), Credentials(Path("/keys")))

    assert tuple(daemon.name for daemon in daemons) == node.DAEMONS
    assert node.DAEMONS.index("network-policies") < node.DAEMONS.index("kubelet")


def test_components_are_made_in_the_order_of_their_start(tmp_path: Path) -> None:
    flags = api_server_flags(tmp_path)
    assert "--authorization-mode=Node,RBAC" in flags
    everything = controlplane.components(
        Paths(tmp_path, tmp_path), Binaries(tmp_path), Credentials(tmp_path / "credentials")
    )
    assert tuple(entry.name for entry in everything) == controlplane.COMPONENTS


def test_the_api_server_starts_again_when_its_tokens_change(tmp_path: Path) -> None:
    """It reads them once, so a token that is new would not be known."""
    api_server_flags(tmp_path)
    before, after = (
        next(
            entry.configuration
            for entry in controlplane.components(
                Paths(tmp_path, tmp_path), Binaries(tmp_path), Credentials(tmp_path / "credentials")
            )
            if entry.name == "kube-apiserver"
        )
        for text in ("", "new")
        if (tmp_path / "credentials/tokens.csv").write_text(text) >= 0
    )
    assert before != after


def test_etcd_and_the_controllers_listen_where_pods_cannot_reach_them() -> None:
    for name in ("etcd", "kube-controller-manager", "kube-scheduler"):
        assert {host for host, _ in controlplane.ports(name)} == {"127.0.0.1"}


def test_every_node_that_could_join_has_a_token_and_its_group() -> None:
    people = credentials.users()
    tokens = {key: f"token-{key}" for key in people}
    lines = credentials.token_file(tokens, people).splitlines()
    assert 'token-kubelet-n1,system:node:n1,system:node:n1,"system:nodes"' in lines
    assert "token-kube-proxy,system:kube-proxy,system:kube-proxy" in lines
    assert sum("system:nodes" in line for line in lines) == plan.MAX_NODES


def test_gpus_are_offered_as_capacity_and_as_allocatable() -> None:
    assert objects.gpu_patch(4) == [
        {"op": "add", "path": "/status/capacity/nvidia.com~1gpu", "value": "4"},
        {"op": "add", "path": "/status/allocatable/nvidia.com~1gpu", "value": "4"},
    ]


def test_a_link_is_ours_by_its_alias() -> None:
    text = json.dumps(
        [
            {"ifname": "perdure0", "ifalias": "perdure-devcluster", "flags": ["UP", "BROADCAST"]},
            {"ifname": "eth0", "flags": ["BROADCAST"]},
        ]
    )
    links = network.parse_links(text)
    assert links["perdure0"] == network.Link("perdure0", "perdure-devcluster", is_up=True)
    assert links["eth0"] == network.Link("eth0", "", is_up=False)


def addresses(link: str, address: str, prefix: int) -> str:
    return json.dumps([{"ifname": link, "addr_info": [{"local": address, "prefixlen": prefix}]}])


@pytest.mark.parametrize(
    ("link", "address", "prefix"),
    [("perdure0", "198.18.128.1", 24), ("eth0", "198.18.200.15", 24), ("eth0", "192.0.2.2", 24)],
    ids=["our own bridge", "beside ours", "elsewhere"],
)
def test_an_address_that_collides_with_none_of_ours_is_nobodys_business(link: str, address: str, prefix: int) -> None:
    network.refuse_overlaps(addresses(link, address, prefix))


@pytest.mark.parametrize(
    ("address", "prefix", "ours"),
    [
        ("198.18.128.77", 32, "198.18.128.0/24"),
        ("198.18.3.1", 24, "198.18.0.0/17"),
        ("198.19.0.5", 24, "198.19.0.0/24"),
        ("198.19.200.1", 15, "198.18.128.0/24"),
    ],
    ids=["nodes", "pods", "services", "a wider network"],
)
def test_an_address_that_collides_with_ours_is_refused(address: str, prefix: int, ours: str) -> None:
    with pytest.raises(DevclusterError, match=f"found address {address}/{prefix} on eth0, expected {ours}"):
        network.refuse_overlaps(addresses("eth0", address, prefix))


@pytest.mark.parametrize(
    ("environment", "state", "cache"),
    [
        ({"XDG_CACHE_HOME": "/c"}, "/var/lib/perdure-devcluster", "/c/perdure"),
        ({"PERDURE_CACHE": "/k", "XDG_CACHE_HOME": "/c"}, "/var/lib/perdure-devcluster", "/k"),
        ({"PERDURE_DEVCLUSTER_STATE": "/s", "PERDURE_CACHE": "/k"}, "/s", "/k"),
    ],
)
def test_folders_follow_the_environment(environment: dict[str, str], state: str, cache: str) -> None:
    assert paths_from_environment(environment) == Paths(Path(state), Path(cache))
