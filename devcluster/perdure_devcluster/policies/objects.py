"""What the engine reads of pods, namespaces and NetworkPolicies, parsed once.

What is said here of a field is what the NetworkPolicy API says of it (``kubectl explain networkpolicy.spec``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from perdure_devcluster.api import Json

Labels = Mapping[str, str]

PROTOCOLS = ("tcp", "udp", "sctp")
LAST_PORT = 65535


@dataclass(frozen=True)
class Requirement:
    """One of a selector's matchExpressions."""

    key: str
    operator: str
    values: frozenset[str]

    def holds(self, labels: Labels) -> bool:
        """Whether labels satisfy it; an operator that is not known is satisfied by none."""
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return labels.get(self.key) not in self.values
            case "Exists":
                return self.key in labels
            case "DoesNotExist":
                return self.key not in labels
        return False


@dataclass(frozen=True)
class Selector:
    """A label selector; one that asks for nothing matches everything."""

    labels: frozenset[tuple[str, str]] = frozenset()
    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Labels) -> bool:
        """Whether labels satisfy all of it."""
        return self.labels <= labels.items() and all(each.holds(labels) for each in self.requirements)


@dataclass(frozen=True)
class PodKey:
    """By what a pod is known on its node."""

    namespace: str
    name: str


@dataclass(frozen=True)
class Pod:
    """A pod with an address of its own, now or soon."""

    key: PodKey
    node: str
    labels: Labels
    address: IPv4Address | None
    """None until the kubelet has told it."""
    ports: Mapping[tuple[str, str], int]
    """Numbers by name and protocol."""


@dataclass(frozen=True)
class Port:
    """Ports of one protocol: by name, or from ``first`` to ``last``."""

    protocol: str
    name: str = ""
    first: int = 0
    last: int = LAST_PORT


@dataclass(frozen=True)
class Block:
    """Addresses, whosoever they are."""

    network: IPv4Network
    excepted: tuple[IPv4Network, ...] = ()


@dataclass(frozen=True)
class Pods:
    """Pods by their labels, of namespaces by theirs, or of the policy's own (None)."""

    namespaces: Selector | None
    pods: Selector


@dataclass(frozen=True)
class Rule:
    """Who may, on which ports. None: whoever, or all of them."""

    peers: tuple[Block | Pods, ...] | None
    ports: tuple[Port, ...] | None


@dataclass(frozen=True)
class Policy:
    """A NetworkPolicy. None where it says nothing of a direction; no rules: nothing passes."""

    key: PodKey
    pods: Selector
    ingress: tuple[Rule, ...] | None
    egress: tuple[Rule, ...] | None


def parse_selector(document: Json | None) -> Selector:
    """Read a LabelSelector."""
    document = document or {}
    return Selector(
        frozenset((document.get("matchLabels") or {}).items()),
        tuple(
            Requirement(entry["key"], entry["operator"], frozenset(entry.get("values") or []))
            for entry in document.get("matchExpressions") or []
        ),
    )


def parse_pod(document: Json) -> Pod | None:
    """Read a pod.

    None for one with its node's network, which no selector of a NetworkPolicy ever means, and for one that has ended:
    its address may be another's by now.
    """
    metadata, spec, status = document["metadata"], document["spec"], document.get("status") or {}
    if spec.get("hostNetwork") or status.get("phase") in {"Succeeded", "Failed"}:
        return None
    containers = [*spec.get("initContainers", []), *spec["containers"]]
    return Pod(
        key=_key(metadata),
        node=spec.get("nodeName", ""),
        labels=metadata.get("labels") or {},
        address=_first_ipv4([status.get("podIP", ""), *(entry["ip"] for entry in status.get("podIPs") or [])]),
        ports={
            (port["name"], port.get("protocol", "TCP").lower()): port["containerPort"]
            for container in containers
            for port in container.get("ports") or []
            if port.get("name")
        },
    )


def parse_policy(document: Json) -> Policy:
    """Read a NetworkPolicy.

    Without policyTypes it is about ingress, and about egress if it has such rules.
    """
    spec = document["spec"]
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    return Policy(
        key=_key(document["metadata"]),
        pods=parse_selector(spec.get("podSelector")),
        ingress=_rules(spec.get("ingress"), "from") if "Ingress" in types else None,
        egress=_rules(spec.get("egress"), "to") if "Egress" in types else None,
    )


def _key(metadata: Json) -> PodKey:
    return PodKey(metadata["namespace"], metadata["name"])


def _rules(documents: list[Json] | None, side: str) -> tuple[Rule, ...]:
    # An empty list of peers, or of ports, is as good as none: all.
    return tuple(
        Rule(
            peers=tuple(filter(None, map(_peer, entry[side]))) if entry.get(side) else None,
            ports=tuple(map(_port, entry["ports"])) if entry.get("ports") else None,
        )
        for entry in documents or []
    )


def _peer(document: Json) -> Block | Pods | None:
    if block := document.get("ipBlock"):
        network = _ipv4_network(block["cidr"])
        excepted = tuple(filter(None, map(_ipv4_network, block.get("except") or [])))
        # There is no IPv6 here, so nobody is within an IPv6 block.
        return Block(network, excepted) if network else None
    of_namespaces = document.get("namespaceSelector")
    return Pods(
        namespaces=None if of_namespaces is None else parse_selector(of_namespaces),
        pods=parse_selector(document.get("podSelector")),
    )


def _port(document: Json) -> Port:
    protocol, port = document.get("protocol", "TCP").lower(), document.get("port")
    if port is None:
        return Port(protocol)
    if isinstance(port, str):
        return Port(protocol, name=port)
    return Port(protocol, first=port, last=document.get("endPort") or port)


def _ipv4_network(text: str) -> IPv4Network | None:
    try:
        return IPv4Network(text, strict=False)
    except ValueError:
        return None


def _first_ipv4(texts: list[str]) -> IPv4Address | None:
    return next((IPv4Address(text) for text in texts if text and ":" not in text), None)
