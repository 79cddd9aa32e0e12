"""NetworkPolicies seen by packets: real nftables, in network namespaces that the tests make."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from perdure_devcluster.plan import NodePlan
from perdure_devcluster.policies.ruleset import TABLE, render
from perdure_devcluster.waiting import wait_for
from tests.devcluster.policy_world import Document, objects, pod, policy

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces can only be made by root"),
    pytest.mark.skipif(
        shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin") is None, reason="nftables is not installed"
    ),
]

# Any node but those that a cluster of this machine has.
NODE = NodePlan(120)
WEB, CLIENT, OTHER, OUTSIDE, SERVICE = "198.18.120.2", "198.18.120.3", "198.18.120.4", "198.18.121.1", "198.19.120.1"
NAMES = {"a/web": WEB, "a/client": CLIENT, "b/other": OTHER}
SECONDS = 30
_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Namespace:
    """A network namespace, held by a process."""

    process: subprocess.Popen[bytes]

    def run(self, *command: str, stdin: str | None = None) -> str:
        enter = ["nsenter", f"--net=/proc/{self.process.pid}/ns/net", "--"]
        done = subprocess.run([*enter, *command], input=stdin, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def socket(self, kind: socket.SocketKind) -> socket.socket:
        """A socket that stays in it, whoever uses it."""
        own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/proc/{self.process.pid}/ns/net", os.O_RDONLY)
        try:
            _enter(there)
            made = socket.socket(socket.AF_INET, kind)
        finally:
            _enter(own)
            os.close(own)
            os.close(there)
        made.settimeout(SECONDS)
        return made


def _enter(descriptor: int) -> None:
    if _LIBC.setns(descriptor, _CLONE_NEWNET) < 0:
        raise OSError(ctypes.get_errno(), "setns")


@dataclass
class Network:
    """A node, its pods, and somebody beyond it; a node's own address is that of its end of each cable."""

    node: Namespace
    at: dict[str, Namespace]
    pods: list[Document] = field(default_factory=lambda: [pod(name, NAMES[name], NODE.name) for name in NAMES])

    def apply(self, *policies: Document, pods: list[Document] | None = None, **more: Any) -> None:
        """What the engine does of it."""
        ruleset = render(objects(self.pods if pods is None else pods, list(policies), **more), NODE)
        self.node.run("nft", "-f", "-", stdin=ruleset)

    @contextmanager
    def listening(self, address: str, port: int = 80) -> Iterator[socket.socket]:
        with self.at[address].socket(socket.SOCK_STREAM) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("0.0.0.0", port))
            server.listen()
            yield server

    def passes(self, source: str, to: str, port: int = 80, listens: tuple[str, int] | None = None) -> bool:
        """Whether a connection comes to be; False only when a packet was seen to be dropped."""
        with self.listening(*(listens or (to, port))), self.at[source].socket(socket.SOCK_STREAM) as client:
            return self.connects(client, to, port)

    def connects(self, client: socket.socket, to: str, port: int = 80) -> bool:
        before = self.dropped()
        client.setblocking(False)
        begun = client.connect_ex((to, port))
        assert begun in {0, errno.EINPROGRESS}, os.strerror(begun)

        def outcome() -> str:
            with contextlib.suppress(OSError):
                client.getpeername()
                return "connected"
            return "dropped" if self.dropped() > before else ""

        ended = wait_for(outcome, what=f"an answer from {to}", timeout_seconds=SECONDS)
        client.setblocking(True)
        return ended == "connected"

    def dropped(self) -> int:
        """Packets that the node's rules have dropped since they are there."""
        listed = json.loads(self.node.run("nft", "--json", "list", "ruleset"))["nftables"]
        expressions = [part for entry in listed if "rule" in entry for part in entry["rule"]["expr"]]
        return sum(part["counter"]["packets"] for part in expressions if "counter" in part)


@contextmanager
def namespace() -> Iterator[Namespace]:
    hold = ["unshare", "--net", "sh", "-c", "echo; read _"]
    with subprocess.Popen(hold, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as held:
        try:
            assert held.stdout
            held.stdout.readline()
            made = Namespace(held)
            made.run("ip", "link", "set", "lo", "up")
            yield made
        finally:
            held.kill()


def attach(node: Namespace, other: Namespace, link: str, address: str) -> None:
    """A cable as `ptp` lays it: the node routes, and its end has the first address."""
    peer = ["peer", "name", "eth0", "netns", str(other.process.pid)]
    node.run("ip", "link", "add", link, "type", "veth", *peer)
    node.run("ip", "address", "add", "198.18.120.1/32", "dev", link)
    node.run("ip", "link", "set", link, "up")
    node.run("ip", "route", "add", f"{address}/32", "dev", link)
    other.run("ip", "address", "add", f"{address}/32", "dev", "eth0")
    other.run("ip", "link", "set", "eth0", "up")
    other.run("ip", "route", "add", "198.18.120.1", "dev", "eth0")
    other.run("ip", "route", "add", "default", "via", "198.18.120.1")


@pytest.fixture(scope="module")
def whole() -> Iterator[Network]:
    with namespace() as node, contextlib.ExitStack() as stack:
        at = {"198.18.120.1": node}
        for number, address in enumerate((WEB, CLIENT, OTHER, OUTSIDE)):
            at[address] = stack.enter_context(namespace())
            attach(node, at[address], f"v{number}", address)
        node.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        # What kube-proxy does of a Service.
        node.run("nft", "-f", "-", stdin=f"""
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
""")  # fmt: skip
        yield Network(node, at)


@pytest.fixture
def network(whole: Network) -> Network:
    whole.apply()
    return whole


DENY = policy("podSelector: {matchLabels: {app: web}}\npolicyTypes: [Ingress, Egress]")


def test_without_policies_everybody_reaches_everybody(network: Network) -> None:
    assert network.passes(CLIENT, WEB)
    assert network.passes(OUTSIDE, WEB)
    assert network.passes(WEB, OUTSIDE)


def test_a_pod_that_is_denied_everything_neither_reaches_nor_is_reached(network: Network) -> None:
    network.apply(DENY)

    assert not network.passes(CLIENT, WEB)
    assert not network.passes(OUTSIDE, WEB)
    assert not network.passes(WEB, CLIENT)
    assert not network.passes(WEB, OUTSIDE)
    assert network.passes(CLIENT, OTHER), "it is none of the others' business"


def test_the_node_reaches_its_pods_as_probes_must(network: Network) -> None:
    network.apply(DENY)

    assert network.passes("198.18.120.1", WEB)
    assert network.passes(WEB, "198.18.120.1")


def test_only_whom_a_rule_names_comes_in_and_only_there(network: Network) -> None:
    rule = "{from: [{podSelector: {matchLabels: {app: client}}}], ports: [{port: 80}, {port: 90, endPort: 95}]}"
    network.apply(policy(f"podSelector: {{matchLabels: {{app: web}}}}\ningress: [{rule}]"))

    assert network.passes(CLIENT, WEB, 80)
    assert network.passes(CLIENT, WEB, 93)
    assert not network.passes(CLIENT, WEB, 96)
    assert not network.passes(OTHER, WEB, 80)
    assert network.passes(WEB, OTHER), "the way out is free"


def test_both_ends_are_asked(network: Network) -> None:
    out = policy("podSelector: {matchLabels: {app: client}}\npolicyTypes: [Egress]\negress: [{}]", "a/out")
    network.apply(out, DENY)

    assert not network.passes(CLIENT, WEB)
    assert network.passes(CLIENT, OTHER)


def test_what_an_except_takes_out_of_a_block_stays_out(network: Network) -> None:
    block = f"{{cidr: 198.18.120.0/23, except: [{OTHER}/32]}}"
    network.apply(policy(f"podSelector: {{}}\npolicyTypes: [Egress]\negress: [{{to: [{{ipBlock: {block}}}]}}]"))

    assert network.passes(WEB, OUTSIDE)
    assert network.passes(WEB, CLIENT)
    assert not network.passes(WEB, OTHER)


def test_replies_pass_also_where_a_policy_comes_later(network: Network) -> None:
    with network.listening(OUTSIDE) as server, network.at[WEB].socket(socket.SOCK_STREAM) as client:
        assert network.connects(client, OUTSIDE)
        network.apply(DENY)
        accepted, _ = server.accept()
        with accepted:
            client.sendall(b"question")
            assert accepted.recv(100) == b"question"
            accepted.sendall(b"answer")
            assert client.recv(100) == b"answer"


def test_answers_over_udp_pass_and_questions_do_not(network: Network) -> None:
    dns = "egress: [{ports: [{port: 53, protocol: UDP}]}]"
    network.apply(policy(f"podSelector: {{}}\npolicyTypes: [Ingress, Egress]\n{dns}"))
    with network.at[WEB].socket(socket.SOCK_DGRAM) as pod_, network.at[OUTSIDE].socket(socket.SOCK_DGRAM) as outside:
        outside.bind(("0.0.0.0", 53))
        pod_.sendto(b"question", (OUTSIDE, 53))
        _, sender = outside.recvfrom(100)
        outside.sendto(b"answer", sender)
        assert pod_.recv(100) == b"answer"

        before = network.dropped()
        outside.sendto(b"question", (WEB, 1234))
        wait_for(lambda: network.dropped() > before, what="it to be dropped", timeout_seconds=SECONDS)


@pytest.mark.parametrize(("port", "expected"), [(80, True), (8000, False)], ids=["of the pod", "of the Service"])
def test_behind_a_service_the_pods_own_address_and_port_count(network: Network, port: int, *, expected: bool) -> None:
    to = f"to: [{{podSelector: {{matchLabels: {{app: web}}}}}}], ports: [{{port: {port}}}]"
    network.apply(policy(f"podSelector: {{matchLabels: {{app: client}}}}\npolicyTypes: [Egress]\negress: [{{{to}}}]"))

    assert network.passes(CLIENT, SERVICE, 8000, listens=(WEB, 80)) is expected


def test_a_pod_reaches_itself_through_its_service(network: Network) -> None:
    network.apply(DENY)

    assert network.passes(WEB, SERVICE, 8000, listens=(WEB, 80))


def test_an_isolated_pod_gets_nothing_before_it_is_known(network: Network) -> None:
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


def test_what_was_applied_before_leaves_nothing_behind(network: Network) -> None:
    network.apply(DENY)
    network.apply(DENY)
    network.apply()

    assert TABLE not in network.node.run("nft", "list", "tables")
    assert network.passes(CLIENT, WEB)
