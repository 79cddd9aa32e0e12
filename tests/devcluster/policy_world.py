"""Pods and policies as the API server tells them, for tests of the NetworkPolicy engine."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Any

import yaml

from perdure_devcluster.policies.objects import PodKey, parse_pod, parse_policy
from perdure_devcluster.policies.ruleset import Objects

Document = dict[str, Any]
TEAMS = {"a": {"team": "a"}, "b": {"team": "b"}}
"""Labels of the namespaces."""


def pod(name: str, address: str = "", node: str = "n1", **parts: Any) -> Document:
    """A pod `namespace/name`, labelled with its name; further parts are its spec's, and its `labels` and `phase`."""
    namespace, _, short = name.partition("/")
    labels = parts.pop("labels", {"app": short})
    status: Document = {"phase": parts.pop("phase", "Running")}
    if address:
        status |= {"podIP": address, "podIPs": [{"ip": address}]}
    return {
        "metadata": {"namespace": namespace, "name": short, "uid": name, "labels": labels},
        "spec": {"nodeName": node, "containers": [{"name": "main", "ports": parts.pop("ports", [])}], **parts},
        "status": status,
    }


def policy(spec: str | Document, name: str = "a/policy") -> Document:
    """A NetworkPolicy `namespace/name`; its spec may be YAML."""
    namespace, _, short = name.partition("/")
    document = yaml.safe_load(spec) if isinstance(spec, str) else spec
    return {"metadata": {"namespace": namespace, "name": short, "uid": name}, "spec": document}


def objects(
    pods: list[Document],
    policies: list[Document],
    *,
    attached: Mapping[str, str] | None = None,
    namespaces: Mapping[str, Mapping[str, str]] | None = None,
) -> Objects:
    """What the engine makes of them; `attached`: pods `namespace/name` by the address that their node gave them."""
    return Objects(
        pods=tuple(filter(None, map(parse_pod, pods))),
        namespaces=TEAMS if namespaces is None else namespaces,
        policies=tuple(map(parse_policy, policies)),
        attached={IPv4Address(address): PodKey(*name.split("/")) for address, name in (attached or {}).items()},
    )
