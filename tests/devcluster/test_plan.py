"""The address plan."""

from __future__ import annotations

import ipaddress

import pytest

from perdure_devcluster import plan
from perdure_devcluster.errors import DevclusterError


def test_every_address_is_in_the_benchmarking_range() -> None:
    benchmarking = ipaddress.IPv4Network("198.18.0.0/15")
    nodes = plan.plan_nodes(plan.MAX_NODES)
    networks = [plan.POD_NETWORK, plan.SERVICE_NETWORK, *(node.pod_network for node in nodes)]
    addresses = [plan.HOST_ADDRESS, plan.DNS_SERVICE_ADDRESS, *(node.address for node in nodes)]
    assert all(ipaddress.IPv4Network(network).subnet_of(benchmarking) for network in networks)
    assert all(ipaddress.IPv4Address(address) in benchmarking for address in addresses)


def test_nodes_share_no_address_no_mac_and_no_link_name() -> None:
    nodes = plan.plan_nodes(plan.MAX_NODES)
    for values in (
        [node.address for node in nodes] + [plan.HOST_ADDRESS],
        [node.mac for node in nodes] + [plan.BRIDGE_MAC],
        [node.host_link for node in nodes] + [plan.BRIDGE],
        [node.pod_network for node in nodes],
    ):
        assert len(set(values)) == len(values)


def test_link_names_fit_the_kernels_fifteen_characters() -> None:
    assert all(len(node.host_link) <= 15 for node in plan.plan_nodes(plan.MAX_NODES))


def test_no_node_address_is_a_pod_address() -> None:
    pods = ipaddress.IPv4Network(plan.POD_NETWORK)
    assert all(ipaddress.IPv4Address(node.address) not in pods for node in plan.plan_nodes(plan.MAX_NODES))


@pytest.mark.parametrize(("name", "number"), [("n1", 1), ("2", 2), ("n3", 3)])
def test_a_node_is_found_by_its_name_or_number(name: str, number: int) -> None:
    assert plan.parse_node(name, 3).number == number


@pytest.mark.parametrize("name", ["n0", "n4", "m1", "", "n-1", "n1 ", "n01"])
def test_a_node_that_is_not_there_is_refused_with_the_ones_that_are(name: str) -> None:
    with pytest.raises(DevclusterError, match="expected a node of this cluster: n1, n2, n3"):
        plan.parse_node(name, 3)


@pytest.mark.parametrize("count", [0, -1, plan.MAX_NODES + 1])
def test_a_count_outside_the_plan_is_refused(count: int) -> None:
    with pytest.raises(DevclusterError, match="expected 1 to"):
        plan.plan_nodes(count)
