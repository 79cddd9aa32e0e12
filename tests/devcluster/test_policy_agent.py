"""What the daemon of NetworkPolicies does when something changes."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, cast

import pytest

from perdure_devcluster.api import Api, Changed, Listed
from perdure_devcluster.errors import CommandFailed, Unreachable
from perdure_devcluster.plan import NodePlan
from perdure_devcluster.policies import attachments
from perdure_devcluster.policies.agent import Agent
from perdure_devcluster.policies.objects import PodKey
from tests.devcluster.policy_world import Document, pod, policy

PODS = "/api/v1/pods"
NAMESPACES = "/api/v1/namespaces"
POLICIES = "/apis/networking.k8s.io/v1/networkpolicies"
WEB = pod("a/web", "198.18.1.2")
NAMESPACE = {"metadata": {"name": "a", "uid": "a"}}
DENY = policy("podSelector: {}")
CHAIN = "chain ingress-198.18.1.2 {"


class Ended(Exception):
    """All that the API server had to say is said."""


class SmallApi:
    """An API server that tells what it is given, one watch after another."""

    def __init__(self, path: str, *watches: list[Listed | Changed | Unreachable]) -> None:
        self._path = path
        self._watches = iter(watches)

    def changes(self, path: str) -> Iterator[Listed | Changed]:
        assert path == self._path
        watch = next(self._watches, None)
        if watch is None:
            raise Ended
        for change in watch:
            if isinstance(change, Unreachable):
                raise change
            yield change


class Node:
    """An agent, and what it has applied."""

    def __init__(self, folder: Path) -> None:
        self.applied: list[str] = []
        self.fails = False
        self.agent = Agent(cast("Api", None), NodePlan(1), folder, self._apply)

    def _apply(self, text: str) -> None:
        if self.fails:
            raise CommandFailed("nft: busy")
        self.applied.append(text)

    def hears(self, path: str, *watches: list[Listed | Changed | Unreachable]) -> None:
        """What the API server says of one path, to the end."""
        self.agent._api = cast("Api", SmallApi(path, *watches))
        followed = {
            PODS: self.agent.follow_pods,
            NAMESPACES: self.agent.follow_namespaces,
            POLICIES: self.agent.follow_policies,
        }
        with pytest.raises(Ended):
            followed[path]()

    def lists(self, path: str, *items: Document) -> None:
        self.hears(path, [Listed(list(items))])


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    monkeypatch.setattr("perdure_devcluster.policies.agent._RETRY_SECONDS", 0.0)
    return Node(tmp_path)


@pytest.fixture
def settled(node: Node) -> Node:
    """One that has heard of a pod, and of a policy about it."""
    for path, item in ((PODS, WEB), (NAMESPACES, NAMESPACE), (POLICIES, DENY)):
        node.lists(path, item)
    assert node.agent.settle()
    assert CHAIN in node.applied[-1]
    return node


def test_nothing_is_applied_before_there_is_a_list_of_everything(node: Node) -> None:
    """A list of pods without that of policies would open what is closed."""
    for path in (PODS, NAMESPACES):
        node.lists(path)
        assert node.agent.settle()
    assert node.applied == []

    node.lists(POLICIES)
    assert node.agent.settle()
    assert len(node.applied) == 1


def test_what_changes_nothing_is_not_applied_again(settled: Node) -> None:
    settled.lists(PODS, WEB)
    assert settled.agent.settle()

    assert len(settled.applied) == 1


@pytest.mark.parametrize(
    "watch",
    [
        pytest.param([Listed([DENY]), Changed(DENY, is_gone=True)], id="while watched"),
        pytest.param([Listed([])], id="between two watches"),
    ],
)
def test_a_policy_that_is_gone_is_gone(settled: Node, watch: list[Any]) -> None:
    settled.hears(POLICIES, watch)
    assert settled.agent.settle()

    assert CHAIN not in settled.applied[-1]


def test_a_pod_that_comes_is_isolated_and_one_that_ends_is_not(settled: Node) -> None:
    new, ended = pod("a/new", "198.18.1.3"), pod("a/web", "198.18.1.2", phase="Succeeded")
    settled.hears(PODS, [Listed([WEB]), Changed(new, is_gone=False), Changed(ended, is_gone=False)])
    assert settled.agent.settle()

    assert "chain ingress-198.18.1.3 {" in settled.applied[-1]
    assert CHAIN not in settled.applied[-1]


def test_while_the_api_server_is_away_what_is_known_holds(settled: Node) -> None:
    settled.hears(POLICIES, [Unreachable("away")], [Unreachable("away")])
    assert settled.agent.settle()
    assert len(settled.applied) == 1

    settled.hears(POLICIES, [Unreachable("away")], [Listed([])])
    assert settled.agent.settle()
    assert CHAIN not in settled.applied[-1]


def test_what_could_not_be_applied_is_tried_again(settled: Node) -> None:
    settled.fails = True
    settled.lists(POLICIES)
    assert not settled.agent.settle()
    assert len(settled.applied) == 1

    settled.fails = False
    assert settled.agent.settle()
    assert CHAIN not in settled.applied[-1]


def kept(namespace: str, name: str, address: str, link: str = "eth0") -> str:
    """What libcni keeps of a call, of version 1.1: more than is read."""
    return json.dumps(
        {
            "kind": "cniCacheV1",
            "containerId": "0123abcd",
            "config": "e30=",
            "ifName": link,
            "networkName": "pods",
            "cniArgs": [
                ["IgnoreUnknown", "1"],
                ["K8S_POD_NAMESPACE", namespace],
                ["K8S_POD_NAME", name],
                ["K8S_POD_INFRA_CONTAINER_ID", "0123abcd"],
            ],
            "result": {
                "cniVersion": "1.0.0",
                "dns": {},
                "interfaces": [{"name": "veth1"}, {"name": "eth0", "sandbox": "/var/run/netns/cni-1"}],
                "ips": [{"address": address, "gateway": "198.18.1.1", "interface": 1}],
            },
        }
    )


def test_whose_an_address_is_stands_in_what_the_cni_library_keeps(tmp_path: Path) -> None:
    (tmp_path / "pods-0123abcd-eth0").write_text(kept("a", "web", "198.18.1.2/24"))
    (tmp_path / "cni-loopback-0123abcd-lo").write_text(kept("a", "web", "127.0.0.1/8", "lo"))
    (tmp_path / "half-written").write_text(kept("a", "other", "198.18.1.3/24")[:200])
    (tmp_path / "of-another-version").write_text("[]")

    assert attachments.read(tmp_path) == {IPv4Address("198.18.1.2"): PodKey("a", "web")}


def test_an_address_belongs_to_whom_it_was_given_last(tmp_path: Path) -> None:
    """A node that lost its power keeps what it knew of pods that are no more."""
    for name, time in (("old", 1), ("new", 3), ("older", 0)):
        file = tmp_path / name
        file.write_text(kept("a", name, "198.18.1.2/24"))
        os.utime(file, (time, time))

    assert attachments.read(tmp_path) == {IPv4Address("198.18.1.2"): PodKey("a", "new")}


def test_a_new_address_is_noticed_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "not-there-yet"
    changes = attachments.Changes(folder)
    noticed = threading.Thread(target=changes.wait)
    noticed.start()
    (folder / "pods-1-eth0").write_text(kept("a", "web", "198.18.1.2/24"))
    noticed.join(30)

    assert not noticed.is_alive()


def test_a_folder_that_cannot_be_watched_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="File exists"):
        attachments.Changes(tmp_path / "file")


def test_an_address_that_the_node_has_given_out_is_taken_over(settled: Node, tmp_path: Path) -> None:
    settled.lists(PODS, WEB, pod("a/new"))
    (tmp_path / "pods-1-eth0").write_text(kept("a", "new", "198.18.1.3/24"))
    settled.agent.read_attachments()
    assert settled.agent.settle()

    assert "chain ingress-198.18.1.3 {" in settled.applied[-1]
