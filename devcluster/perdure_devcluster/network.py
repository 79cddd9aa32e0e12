"""The machine's side of the cluster's network: one bridge, one cable a node."""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network

from perdure_devcluster import plan
from perdure_devcluster.commands import run, succeeds
from perdure_devcluster.errors import DevclusterError
from perdure_devcluster.plan import NodePlan

# Written into each link that we make, so that one of somebody else's with the
# same name is recognised and left alone.
_ALIAS = "perdure-devcluster"
_NETWORKS = tuple(IPv4Network(name) for name in (plan.NODE_NETWORK, plan.POD_NETWORK, plan.SERVICE_NETWORK))


@dataclass(frozen=True)
class Link:
    """What `ip link` says of one link."""

    name: str
    alias: str
    is_up: bool


def parse_links(text: str) -> dict[str, Link]:
    """Read `ip --json link show`."""
    links = [Link(entry["ifname"], entry.get("ifalias", ""), "UP" in entry["flags"]) for entry in json.loads(text)]
    return {link.name: link for link in links}


def links() -> dict[str, Link]:
    """All links of the machine."""
    return parse_links(run(["ip", "--json", "link", "show"]))


def raise_bridge() -> None:
    """Make the bridge that the API server listens on, unless it is there."""
    refuse_overlaps(run(["ip", "--json", "-4", "address", "show"]))
    link = links().get(plan.BRIDGE)
    if link is None:
        run(["ip", "link", "add", plan.BRIDGE, "address", plan.BRIDGE_MAC, "type", "bridge"])
        run(["ip", "link", "set", plan.BRIDGE, "alias", _ALIAS])
    elif link.alias != _ALIAS:
        raise DevclusterError(_stranger(plan.BRIDGE))
    address = f"{plan.HOST_ADDRESS}/{plan.NODE_PREFIX_LENGTH}"
    run(["ip", "address", "replace", address, "dev", plan.BRIDGE])
    run(["ip", "link", "set", plan.BRIDGE, "up"])


def remove_bridge() -> None:
    """Take the bridge away, and with it its routes."""
    _remove_own(plan.BRIDGE)


def plug_in(node: NodePlan, init_pid: int) -> None:
    """Lay the cable between the bridge and a node whose first process is ``init_pid``."""
    _remove_own(node.host_link)
    peer = ["peer", "name", "eth0", "address", node.mac, "netns", str(init_pid)]
    run(["ip", "link", "add", node.host_link, "type", "veth", *peer])
    run(["ip", "link", "set", node.host_link, "alias", _ALIAS])
    run(["ip", "link", "set", node.host_link, "master", plan.BRIDGE, "up"])
    run(["ip", "route", "replace", node.pod_network, "via", node.address])


def unplug(node: NodePlan) -> None:
    """Take away what a node that is gone may have left."""
    _remove_own(node.host_link)


def set_carrier(node: NodePlan, *, up: bool) -> None:
    """Cut a node's cable, or mend it."""
    run(["ip", "link", "set", node.host_link, "up" if up else "down"])


def route_services(node: NodePlan) -> None:
    """Send the machine's own traffic for Services through one node."""
    run(["ip", "route", "replace", plan.SERVICE_NETWORK, "via", node.address])


def _remove_own(name: str) -> None:
    link = links().get(name)
    if link is None:
        return
    if link.alias != _ALIAS:
        raise DevclusterError(_stranger(name))
    # A node's end of a cable goes with its namespace, in the kernel's own time:
    # the link may be gone by now.
    if not succeeds(["ip", "link", "delete", name]) and name in links():
        run(["ip", "link", "delete", name])


def _stranger(name: str) -> str:
    return (
        f"found a network link {name} that this program did not make, expected none;"
        f" if nothing needs it, run: ip link delete {name}"
    )


def refuse_overlaps(text: str) -> None:
    """Raise when, by `ip --json -4 address show`, another link uses addresses of ours."""
    for entry in json.loads(text):
        for address in entry["addr_info"]:
            theirs = IPv4Interface(f"{address['local']}/{address['prefixlen']}")
            ours = next((network for network in _NETWORKS if network.overlaps(theirs.network)), None)
            if ours and entry["ifname"] != plan.BRIDGE:
                message = (
                    f"found address {theirs} on {entry['ifname']}, expected {ours}"
                    " to be unused; remove it, or run the cluster on another machine"
                )
                raise DevclusterError(message)
