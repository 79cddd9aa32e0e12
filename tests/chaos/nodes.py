"""Nodes as kubectl's watch shows them: which ones Kubernetes gave up by itself, whatever the reason."""

from __future__ import annotations

import math
import time
from typing import Any, Final

from tests.chaos.causes import Spell

EVICTING: Final = "NoExecute"
"""The effect of a taint for which a node's pods are ended."""

Document = dict[str, Any]


class Nodes:
    """Times in which a node's pods were ended or not let in: a node on a busy machine may miss its heartbeats."""

    def __init__(self) -> None:
        self._begun: dict[str, float] = {}
        self._over: list[Spell] = []

    def take(self, event: Document) -> None:
        """What a watch shows of one node, now."""
        node = event["object"]
        if node.get("kind") != "Node":
            return
        name = node["metadata"]["name"]
        if event["type"] != "DELETED" and any(
            taint.get("effect") == EVICTING for taint in node["spec"].get("taints", ())
        ):
            self._begun.setdefault(name, time.monotonic())
        elif name in self._begun:
            self._over.append(Spell(name, self._begun.pop(name), time.monotonic()))

    @property
    def spells(self) -> list[Spell]:
        """All so far; one that is not over never ends."""
        return [*self._over, *(Spell(name, began, math.inf) for name, began in list(self._begun.items()))]
