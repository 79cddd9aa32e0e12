"""Keeps the nftables of one node what the cluster's NetworkPolicies say.

Run as a daemon inside the node, beside kube-proxy. While it is away, what it has written last holds.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from perdure_devcluster import plan
from perdure_devcluster.api import Api, Json, Listed
from perdure_devcluster.commands import run
from perdure_devcluster.credentials import Credentials
from perdure_devcluster.errors import CommandFailed, Unreachable
from perdure_devcluster.plan import NodePlan
from perdure_devcluster.policies import attachments
from perdure_devcluster.policies.objects import Labels, parse_pod, parse_policy
from perdure_devcluster.policies.ruleset import Objects, render

_PODS = "/api/v1/pods"
_NAMESPACES = "/api/v1/namespaces"
_POLICIES = "/apis/networking.k8s.io/v1/networkpolicies"
_RETRY_SECONDS = 1.0

_T = TypeVar("_T")
Namespace = tuple[str, Labels]


def parse_namespace(document: Json) -> Namespace:
    """Name and labels of a namespace."""
    return document["metadata"]["name"], document["metadata"].get("labels") or {}


class Agent:
    """Follows pods, namespaces, policies and the node's addresses, and renders when one of them changes."""

    def __init__(self, api: Api, node: NodePlan, folder: Path, apply: Callable[[str], object]) -> None:
        """Read through ``api`` and from the ``folder`` of attachments; ``apply`` takes the text of a transaction."""
        self._api = api
        self._node = node
        self._folder = folder
        self._apply = apply
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._objects = Objects()
        self._unread = {_PODS, _NAMESPACES, _POLICIES}
        self._applied = ""

    def run(self) -> None:
        """Never returns."""
        for target in (self.follow_pods, self.follow_namespaces, self.follow_policies, self.follow_attachments):
            threading.Thread(target=target, daemon=True).start()
        while True:
            self._changed.wait()
            if not self.settle():
                time.sleep(_RETRY_SECONDS)

    def settle(self) -> bool:
        """Apply what is new, once there is something of each kind; False when that failed and is to be tried again."""
        self._changed.clear()
        with self._lock:
            if self._unread:
                return True
            objects = self._objects
        text = render(objects, self._node)
        if text == self._applied:
            return True
        try:
            self._apply(text)
        except CommandFailed as error:
            print(f"{error}\nof this:\n{text}", flush=True)
            self._changed.set()
            return False
        self._applied = text
        print(f"applied: {text.count('counter drop')} places where packets end", flush=True)
        return True

    def follow_pods(self) -> None:
        """Never returns, like the three below."""
        self._follow(_PODS, parse_pod, lambda pods: replace(self._objects, pods=pods))

    def follow_namespaces(self) -> None:
        """Their labels, by which policies name them."""
        self._follow(_NAMESPACES, parse_namespace, lambda found: replace(self._objects, namespaces=dict(found)))

    def follow_policies(self) -> None:
        """Of all namespaces."""
        self._follow(_POLICIES, parse_policy, lambda policies: replace(self._objects, policies=policies))

    def follow_attachments(self) -> None:
        """Returns where the kernel watches no folder: addresses are then known when the kubelet tells them."""
        try:
            changes = attachments.Changes(self._folder)
            while True:
                self.read_attachments()
                changes.wait()
        except OSError as error:
            print(f"{self._folder}: {error}", flush=True)

    def read_attachments(self) -> None:
        """Take over whose the node's addresses are."""
        attached = attachments.read(self._folder)
        with self._lock:
            self._objects = replace(self._objects, attached=attached)
        self._changed.set()

    def _follow(self, path: str, parse: Callable[[Json], _T | None], put: Callable[[tuple[_T, ...]], Objects]) -> None:
        while True:
            found: dict[str, _T] = {}
            try:
                for change in self._api.changes(path):
                    if isinstance(change, Listed):
                        found = {_uid(item): parsed for item in change.items if (parsed := parse(item)) is not None}
                    elif change.is_gone or (parsed := parse(change.document)) is None:
                        found.pop(_uid(change.document), None)
                    else:
                        found[_uid(change.document)] = parsed
                    with self._lock:
                        self._objects = put(tuple(found.values()))
                        self._unread.discard(path)
                    self._changed.set()
            except Unreachable as error:
                # What is known still holds; the next list repeats what was missed.
                print(f"{path}: {error}", flush=True)
                time.sleep(_RETRY_SECONDS)


def apply_here(text: str) -> None:
    """Have nftables take over a transaction, in the network namespace that this runs in."""
    run(["nft", "-f", "-"], stdin=text)


def _uid(document: Json) -> str:
    uid: str = document["metadata"]["uid"]
    return uid


def _end(failure: threading.ExceptHookArgs) -> None:
    """What fails in a thread ends the process, which is then started again: half of it would only seem to be there."""
    sys.excepthook(failure.exc_type, failure.exc_value or failure.exc_type(), failure.exc_traceback)
    sys.stderr.flush()
    os._exit(1)


def main(arguments: list[str]) -> None:
    """``python3 -m perdure_devcluster.policies.agent NODE CREDENTIALS``: a node's name, and a folder."""
    threading.excepthook = _end
    name, folder = arguments
    credentials = Credentials(Path(folder))
    api = Api(credentials.file("ca.crt"), credentials.token("network-policies"))
    Agent(api, plan.parse_node(name, plan.MAX_NODES), attachments.FOLDER, apply_here).run()


if __name__ == "__main__":
    main(sys.argv[1:])
