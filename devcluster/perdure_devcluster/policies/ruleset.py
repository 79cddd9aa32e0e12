"""NetworkPolicies as nftables: objects in, the text of one transaction out.

One chain for each direction of each pod that a policy isolates; a map leads a packet there by its address. A chain
returns what one of the policies allows, and drops the rest::

    forward:  established? accept
              source is an isolated pod of this node?       its chain of egress
              destination is an isolated pod of this node?  its chain of ingress

Packets are seen where the node forwards them: after kube-proxy has put a pod's address in the place of a Service's,
and before its own is hidden. What a node itself sends to its pods, or gets from them, is not forwarded: probes pass,
as the API wants it. Each node answers for its own pods, so what goes from one to another is asked about on both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, collapse_addresses

from perdure_devcluster.plan import NodePlan
from perdure_devcluster.policies.objects import (
    LAST_PORT,
    PROTOCOLS,
    Block,
    Labels,
    Pod,
    PodKey,
    Pods,
    Policy,
    Port,
    Rule,
)

TABLE = "network-policies"
# nftables takes no longer one than 128.
_COMMENT_LIMIT = 120


class Direction(Enum):
    """Of new connections, as a pod sees them; the value is where its peer stands in a packet."""

    INGRESS = "saddr"
    EGRESS = "daddr"

    @property
    def own(self) -> str:
        """Where the pod itself stands in a packet."""
        return "daddr" if self is Direction.INGRESS else "saddr"

    def rules(self, policy: Policy) -> tuple[Rule, ...] | None:
        """What a policy says of it."""
        return policy.ingress if self is Direction.INGRESS else policy.egress


@dataclass(frozen=True)
class Objects:
    """What there is in the cluster, and on a node."""

    pods: tuple[Pod, ...] = ()
    namespaces: Mapping[str, Labels] = field(default_factory=dict)
    """Labels by name."""
    policies: tuple[Policy, ...] = ()
    attached: Mapping[IPv4Address, PodKey] = field(default_factory=dict)
    """To whom the node has given its addresses, which it knows before the kubelet tells it."""


def render(objects: Objects, node: NodePlan) -> str:
    """What `nft -f` makes of a node's rules what they should be, in one step."""
    return _Ruleset(objects, node).text()


class _Ruleset:
    def __init__(self, objects: Objects, node: NodePlan) -> None:
        self._objects = objects
        self._node = node

    def text(self) -> str:
        # What is not there cannot be deleted, and may be added twice.
        begin = f"add table ip {TABLE}\ndelete table ip {TABLE}\n"
        chains = {
            direction: {address: self._chain(address, pod, direction) for address, pod in self._isolated(direction)}
            for direction in Direction
        }
        held = [line for direction in Direction for line in self._hold(direction)]
        if not held and not any(chains.values()):
            return begin
        forward = ["type filter hook forward priority filter; policy accept;", "ct state established,related accept"]
        forward += held
        parts = []
        for direction in (Direction.EGRESS, Direction.INGRESS):
            if not chains[direction]:
                continue
            name = direction.name.lower()
            elements = ", ".join(f"{address} : jump {name}-{address}" for address in chains[direction])
            parts.append(_block(f"map {name}", ["type ipv4_addr : verdict", f"elements = {{ {elements} }}"]))
            parts += [_block(f"chain {name}-{address}", lines) for address, lines in chains[direction].items()]
            forward.append(f"ip {direction.own} vmap @{name}")
        parts.append(_block("chain forward", forward))
        return f"{begin}table ip {TABLE} {{\n{''.join(parts)}}}\n"

    @cached_property
    def _addresses(self) -> dict[PodKey, list[IPv4Address]]:
        """Of every pod of the cluster that has one."""
        found: dict[PodKey, list[IPv4Address]] = {}
        for pod in self._objects.pods:
            told = pod.address
            # What the node says of its addresses is newer than what the kubelet has told.
            told_by_node = self._objects.attached.get(told) if told else None
            if told and told_by_node in {None, pod.key}:
                found.setdefault(pod.key, []).append(told)
        for address, key in self._objects.attached.items():
            if address not in found.setdefault(key, []):
                found[key].append(address)
        return found

    @property
    def _local(self) -> list[Pod]:
        return [pod for pod in self._objects.pods if pod.node == self._node.name]

    def _policies_of(self, pod: Pod, direction: Direction) -> list[Policy]:
        return [
            policy
            for policy in self._objects.policies
            if policy.key.namespace == pod.key.namespace
            and direction.rules(policy) is not None
            and policy.pods.matches(pod.labels)
        ]

    def _isolated(self, direction: Direction) -> list[tuple[IPv4Address, Pod]]:
        """Addresses of the node's pods that a policy is about."""
        return sorted(
            (
                (address, pod)
                for pod in self._local
                if self._policies_of(pod, direction)
                for address in self._addresses.get(pod.key, [])
            ),
            key=lambda entry: entry[0],
        )

    def _hold(self, direction: Direction) -> list[str]:
        """Lets nothing through for an address that may be an isolated pod's, until it is known whose it is.

        So a pod is isolated from its first packet on, and nobody waits where no policy is about anybody.
        """
        here = f"ip {direction.own}"
        lines = []
        if any(self._policies_of(pod, direction) for pod in self._local if not self._addresses.get(pod.key)):
            network = IPv4Network(self._node.pod_network)
            # The first is the node's own: behind it is whoever comes through a Service from outside the cluster.
            known = {network[1], *(address for pod in self._local for address in self._addresses.get(pod.key, []))}
            lines.append(f"{here} {network} {here} != {_set(sorted(known))}")
        pods = {pod.key for pod in self._objects.pods}
        isolating = {policy.key.namespace for policy in self._objects.policies if direction.rules(policy) is not None}
        if unheard_of := [
            address for address, key in self._objects.attached.items() if key not in pods and key.namespace in isolating
        ]:
            lines.append(f"{here} {_set(sorted(unheard_of))}")
        return [f"{line} counter drop {_comment('a new pod, before it is known')}" for line in lines]

    def _chain(self, address: IPv4Address, pod: Pod, direction: Direction) -> list[str]:
        # What a pod sends to itself, through its Service, no policy can forbid.
        lines = [f"ip {direction.value} {address} return {_comment('itself')}"]
        for policy in self._policies_of(pod, direction):
            verdict = f"return {_comment(f'{policy.key.namespace}/{policy.key.name}')}"
            for rule in direction.rules(policy) or ():
                matches = self._matches(rule, policy, pod, direction)
                lines += [f"{match} {verdict}".strip() for match in matches]
        return [*lines, f"counter drop {_comment(f'{pod.key.namespace}/{pod.key.name}')}"]

    def _matches(self, rule: Rule, policy: Policy, pod: Pod, direction: Direction) -> Iterator[str]:
        """What packets a rule allows, as conditions of which one must hold."""
        numbered = [port for port in rule.ports or () if not port.name]
        named = [port for port in rule.ports or () if port.name]
        if direction is Direction.INGRESS:
            # It is our own pod that has given the names.
            numbered += [port for each in named for port in _numbered(each, pod)]
        ports = [""] if rule.ports is None else list(_port_matches(numbered))
        for peers in self._peers(rule, policy, direction):
            yield from (f"{peers} {match}".strip() for match in ports)
        if direction is Direction.EGRESS:
            yield from self._named(named, rule, policy)

    def _peers(self, rule: Rule, policy: Policy, direction: Direction) -> Iterator[str]:
        if rule.peers is None:
            yield ""
            return
        for peer in rule.peers:
            if isinstance(peer, Block):
                yield _block_match(peer, direction)
        if addresses := self._addresses_of(self._selected(rule, policy)):
            yield f"ip {direction.value} {_set(addresses)}"

    def _named(self, ports: list[Port], rule: Rule, policy: Policy) -> Iterator[str]:
        """Each pod that is a destination has its own number for a name."""
        destinations = self._objects.pods if rule.peers is None else self._selected(rule, policy)
        for port in ports:
            by_number: dict[int, list[Pod]] = {}
            for pod in destinations:
                for found in _numbered(port, pod):
                    by_number.setdefault(found.first, []).append(pod)
            for number, pods in sorted(by_number.items()):
                if addresses := self._addresses_of(pods):
                    yield f"ip daddr {_set(addresses)} {port.protocol} dport {number}"

    def _selected(self, rule: Rule, policy: Policy) -> list[Pod]:
        """The pods that a rule means by their labels."""
        meant = [peer for peer in rule.peers or () if isinstance(peer, Pods)]
        return [pod for pod in self._objects.pods if any(self._is_meant(pod, peer, policy) for peer in meant)]

    def _is_meant(self, pod: Pod, peer: Pods, policy: Policy) -> bool:
        if peer.namespaces is None:
            is_there = pod.key.namespace == policy.key.namespace
        else:
            labels = self._objects.namespaces.get(pod.key.namespace)
            is_there = labels is not None and peer.namespaces.matches(labels)
        return is_there and peer.pods.matches(pod.labels)

    def _addresses_of(self, pods: Iterable[Pod]) -> list[IPv4Address]:
        return sorted({address for pod in pods for address in self._addresses.get(pod.key, [])})


def _numbered(port: Port, pod: Pod) -> list[Port]:
    number = pod.ports.get((port.name, port.protocol))
    return [] if number is None else [Port(port.protocol, first=number, last=number)]


def _port_matches(ports: list[Port]) -> Iterator[str]:
    for protocol in PROTOCOLS:
        ranges = _merged((port.first, port.last) for port in ports if port.protocol == protocol)
        if ranges == [(0, LAST_PORT)]:
            yield f"meta l4proto {protocol}"
        elif ranges:
            elements = [str(first) if first == last else f"{first}-{last}" for first, last in ranges]
            yield f"{protocol} dport {_set(elements)}"


def _merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same numbers in ranges that do not overlap, which nftables would refuse."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


def _block_match(block: Block, direction: Direction) -> str:
    matches = []
    if block.network.prefixlen:
        matches.append(f"ip {direction.value} {block.network}")
    if block.excepted:
        matches.append(f"ip {direction.value} != {_set(collapse_addresses(block.excepted))}")
    return " ".join(matches)


def _set(elements: Iterable[object]) -> str:
    return f"{{ {', '.join(map(str, elements))} }}"


def _comment(text: str) -> str:
    return f'comment "{text[:_COMMENT_LIMIT]}"'


def _block(head: str, lines: list[str]) -> str:
    return "\n".join([f"  {head} {{", *(f"    {line}" for line in lines), "  }\n"])
