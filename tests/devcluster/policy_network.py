"""Network namespaces that stand for a node, its pods and somebody beyond it, and packets between them."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from perdure_devcluster.plan import NodePlan
from perdure_devcluster.policies.ruleset import Objects, render
from perdure_devcluster.waiting import wait_for

NODE = NodePlan(120)
"""Any node but those that a cluster of this machine has."""
GATEWAY = "198.18.120.1"
SECONDS = 30
NEEDS = [
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces can only be made by root"),
    pytest.mark.skipif(shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin") is None, reason="nftables is missing"),
]
"""Marks of tests that make such a network."""
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


@dataclass(frozen=True)
class Network:
    """A node and whom it reaches, by address; the node's own is GATEWAY."""

    node: Namespace
    at: dict[str, Namespace]

    def apply(self, objects: Objects) -> None:
        """What the engine does of them."""
        self.node.run("nft", "-f", "-", stdin=render(objects, NODE))

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
    node.run("ip", "address", "add", f"{GATEWAY}/32", "dev", link)
    node.run("ip", "link", "set", link, "up")
    node.run("ip", "route", "add", f"{address}/32", "dev", link)
    other.run("ip", "address", "add", f"{address}/32", "dev", "eth0")
    other.run("ip", "link", "set", "eth0", "up")
    other.run("ip", "route", "add", GATEWAY, "dev", "eth0")
    other.run("ip", "route", "add", "default", "via", GATEWAY)


@contextmanager
def network_of(addresses: Iterable[str]) -> Iterator[Network]:
    """A node, and behind a cable each of these."""
    with namespace() as node, contextlib.ExitStack() as stack:
        at = {GATEWAY: node}
        for number, address in enumerate(addresses):
            at[address] = stack.enter_context(namespace())
            attach(node, at[address], f"v{number}", address)
        node.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        yield Network(node, at)
