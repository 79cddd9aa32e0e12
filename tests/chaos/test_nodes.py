"""A node that Kubernetes gives up is seen to be given up, for as long as it is."""

from __future__ import annotations

import math
import time
from typing import Any

from tests.chaos.nodes import Nodes


def event(*effects: str, kind: str = "MODIFIED", name: str = "n1") -> dict[str, Any]:
    spec = {"taints": [{"key": "node.kubernetes.io/unreachable", "effect": each} for each in effects]}
    return {"type": kind, "object": {"kind": "Node", "metadata": {"name": name}, "spec": spec if effects else {}}}


def test_a_node_is_given_up_from_its_first_evicting_taint_to_its_last() -> None:
    nodes, before = Nodes(), time.monotonic()
    for each in (event(), event("NoSchedule"), event("NoSchedule", "NoExecute"), event("NoExecute")):
        nodes.take(each)
    (open_one,) = nodes.spells
    assert (open_one.where, open_one.ended) == ("n1", math.inf)

    nodes.take(event("NoSchedule"))
    nodes.take(event())

    (spell,) = nodes.spells
    assert before <= spell.began == open_one.began <= spell.ended <= time.monotonic()


def test_each_node_and_each_time_is_one_and_a_node_that_is_removed_is_given_up_no_more() -> None:
    nodes = Nodes()
    for each in (event("NoExecute"), event("NoExecute", name="n2"), event(), event("NoExecute")):
        nodes.take(each)
    nodes.take(event("NoExecute", kind="DELETED", name="n2"))

    assert [spell.where for spell in nodes.spells] == ["n1", "n2", "n1"]
    assert [math.isinf(spell.ended) for spell in nodes.spells] == [False, False, True]


def test_a_word_of_the_watch_that_is_no_node_is_none() -> None:
    nodes = Nodes()
    nodes.take({"type": "ERROR", "object": {"kind": "Status", "code": 410}})

    assert nodes.spells == []
