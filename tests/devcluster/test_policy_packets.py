"""NetworkPolicies seen by packets: real nftables, in network namespaces that the tests make."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from perdure_devcluster.policies.ruleset import TABLE
from perdure_devcluster.waiting import wait_for
from tests.devcluster.policy_network import GATEWAY, NEEDS, NODE, SECONDS, Network, network_of
from tests.devcluster.policy_world import Document, objects, pod, policy

pytestmark = NEEDS

WEB, CLIENT, OTHER, OUTSIDE, SERVICE = "198.18.120.2", "198.18.120.3", "198.18.120.4", "198.18.121.1", "198.19.120.1"
NAMES = {"a/web": WEB, "a/client": CLIENT, "b/other": OTHER}
KUBE_PROXY = f"""
table ip services {{
  chain prerouting {{
    type nat hook prerouting priority dstnat
    ip daddr {SERVICE} tcp dport 8000 dnat to {WEB}:80
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat
    ip saddr {WEB} ip daddr {WEB} masquerade
  }}
}}
"""
"""What it does of a Service."""


@dataclass(frozen=True)
class Pods:
    """Three pods, somebody outside, and a Service, in one network."""

    network: Network

    def apply(self, *policies: Document, pods: list[Document] | None = None, **more: Any) -> None:
        known = [pod(name, address, NODE.name) for name, address in NAMES.items()]
        self.network.apply(objects(known if pods is None else pods, list(policies), **more))

    def passes(self, source: str, to: str, port: int = 80, listens: tuple[str, int] | None = None) -> bool:
        return self.network.passes(source, to, port, listens)


@pytest.fixture(scope="module")
def whole() -> Iterator[Network]:
    with network_of((WEB, CLIENT, OTHER, OUTSIDE)) as made:
        made.node.run("nft", "-f", "-", stdin=KUBE_PROXY)
        yield made


@pytest.fixture
def network(whole: Network) -> Pods:
    pods = Pods(whole)
    pods.apply()
    return pods


DENY = policy("podSelector: {matchLabels: {app: web}}\npolicyTypes: [Ingress, Egress]")


def test_without_policies_everybody_reaches_everybody(network: Pods) -> None:
    assert network.passes(CLIENT, WEB)
    assert network.passes(OUTSIDE, WEB)
    assert network.passes(WEB, OUTSIDE)


def test_a_pod_that_is_denied_everything_neither_reaches_nor_is_reached(network: Pods) -> None:
    network.apply(DENY)

    assert not network.passes(CLIENT, WEB)
    assert not network.passes(OUTSIDE, WEB)
    assert not network.passes(WEB, CLIENT)
    assert not network.passes(WEB, OUTSIDE)
    assert network.passes(CLIENT, OTHER), "it is none of the others' business"


def test_the_node_reaches_its_pods_as_probes_must(network: Pods) -> None:
    network.apply(DENY)

    assert network.passes(GATEWAY, WEB)
    assert network.passes(WEB, GATEWAY)


def test_only_whom_a_rule_names_comes_in_and_only_there(network: Pods) -> None:
    rule = "{from: [{podSelector: {matchLabels: {app: client}}}], ports: [{port: 80}, {port: 90, endPort: 95}]}"
    network.apply(policy(f"podSelector: {{matchLabels: {{app: web}}}}\ningress: [{rule}]"))

    assert network.passes(CLIENT, WEB, 80)
    assert network.passes(CLIENT, WEB, 93)
    assert not network.passes(CLIENT, WEB, 96)
    assert not network.passes(OTHER, WEB, 80)
    assert network.passes(WEB, OTHER), "the way out is free"


def test_both_ends_are_asked(network: Pods) -> None:
    out = policy("podSelector: {matchLabels: {app: client}}\npolicyTypes: [Egress]\negress: [{}]", "a/out")
    network.apply(out, DENY)

    assert not network.passes(CLIENT, WEB)
    assert network.passes(CLIENT, OTHER)


def test_what_an_except_takes_out_of_a_block_stays_out(network: Pods) -> None:
    block = f"{{cidr: 198.18.120.0/23, except: [{OTHER}/32]}}"
    network.apply(policy(f"podSelector: {{}}\npolicyTypes: [Egress]\negress: [{{to: [{{ipBlock: {block}}}]}}]"))

    assert network.passes(WEB, OUTSIDE)
    assert network.passes(WEB, CLIENT)
    assert not network.passes(WEB, OTHER)


def test_replies_pass_also_where_a_policy_comes_later(network: Pods, whole: Network) -> None:
    with whole.listening(OUTSIDE) as server, whole.at[WEB].socket(socket.SOCK_STREAM) as client:
        assert whole.connects(client, OUTSIDE)
        network.apply(DENY)
        accepted, _ = server.accept()
        with accepted:
            client.sendall(b"question")
            assert accepted.recv(100) == b"question"
            accepted.sendall(b"answer")
            assert client.recv(100) == b"answer"


def test_answers_over_udp_pass_and_questions_do_not(network: Pods, whole: Network) -> None:
    dns = "egress: [{ports: [{port: 53, protocol: UDP}]}]"
    network.apply(policy(f"podSelector: {{}}\npolicyTypes: [Ingress, Egress]\n{dns}"))
    with whole.at[WEB].socket(socket.SOCK_DGRAM) as pod_, whole.at[OUTSIDE].socket(socket.SOCK_DGRAM) as outside:
        outside.bind(("0.0.0.0", 53))
        pod_.sendto(b"question", (OUTSIDE, 53))
        _, sender = outside.recvfrom(100)
        outside.sendto(b"answer", sender)
        assert pod_.recv(100) == b"answer"

        before = whole.dropped()
        outside.sendto(b"question", (WEB, 1234))
        wait_for(lambda: whole.dropped() > before, what="it to be dropped", timeout_seconds=SECONDS)


@pytest.mark.parametrize(("port", "expected"), [(80, True), (8000, False)], ids=["of the pod", "of the Service"])
def test_behind_a_service_the_pods_own_address_and_port_count(network: Pods, port: int, *, expected: bool) -> None:
    to = f"to: [{{podSelector: {{matchLabels: {{app: web}}}}}}], ports: [{{port: {port}}}]"
    network.apply(policy(f"podSelector: {{matchLabels: {{app: client}}}}\npolicyTypes: [Egress]\negress: [{{{to}}}]"))

    assert network.passes(CLIENT, SERVICE, 8000, listens=(WEB, 80)) is expected


def test_a_pod_reaches_itself_through_its_service(network: Pods) -> None:
    network.apply(DENY)

    assert network.passes(WEB, SERVICE, 8000, listens=(WEB, 80))


def test_an_isolated_pod_gets_nothing_before_it_is_known(network: Pods) -> None:
    """Until its node has given it an address, any unknown one may be its own; then only its rules count."""
    deny_client = policy("podSelector: {matchLabels: {app: client}}\npolicyTypes: [Egress]", "a/deny")
    known = [pod("a/web", WEB, NODE.name), pod("b/other", OTHER, NODE.name)]
    new = pod("a/client", node=NODE.name)

    network.apply(deny_client, pods=[*known, new])
    assert not network.passes(CLIENT, WEB)
    assert network.passes(OTHER, WEB), "whom everybody knows does not wait"

    network.apply(deny_client, pods=[*known, new], attached={CLIENT: "a/client"})
    assert not network.passes(CLIENT, WEB)

    network.apply(pods=[*known, new], attached={CLIENT: "a/client"})
    assert network.passes(CLIENT, WEB)


def test_what_was_applied_before_leaves_nothing_behind(network: Pods, whole: Network) -> None:
    network.apply(DENY)
    network.apply(DENY)
    network.apply()

    assert TABLE not in whole.node.run("nft", "list", "tables")
    assert network.passes(CLIENT, WEB)
