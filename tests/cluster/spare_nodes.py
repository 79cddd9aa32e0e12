"""Two nodes more, for pods that ask for them: what is done to these disturbs no other test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.cluster.conftest import Document, Jobs, Kubectl, trainer_image, wait_until
from tests.cluster.test_resilience import devcluster

FIRST, SECOND = SPARE = ("n3", "n4")
GPUS = 4
"""What each of them offers."""
_SPARE = "perdure.test/spare"
_OPEN = "perdure.test/open"
TOLERATION = {"key": _SPARE, "operator": "Exists"}


@contextmanager
def spare_nodes(jobs: Jobs, system: Kubectl) -> Iterator[None]:
    """They come, empty but for the trainer's image, and go."""
    for node in SPARE:
        # Closed before they are there: in a moment between, pods of other tests would find places on them.
        system("apply", "-f", "-", document=_closed(node))
    try:
        devcluster("up", "--nodes", "4")
        _pull(jobs, trainer_image(system))
        yield
    finally:
        devcluster("up", "--nodes", "2")


def _closed(node: str) -> Document:
    """A node that its kubelet will find, with the taint, and take for its own."""
    taint = {"key": _SPARE, "value": "true", "effect": "NoSchedule"}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}, "spec": {"taints": [taint]}}


def on_spare_nodes(spec: Document, **resources: Any) -> Document:
    """A job's spec, for those of the two nodes that are open."""
    place = {"nodeSelector": {_OPEN: "true"}, "tolerations": [TOLERATION]}
    return {**spec, "resources": {**spec.get("resources", {}), **resources, **place}}


def open_nodes(system: Kubectl, *nodes: str) -> None:
    """Jobs that ask for spare nodes find places on them."""
    system("label", "nodes", *nodes, f"{_OPEN}=true", "--overwrite")


def close_nodes(system: Kubectl, *nodes: str) -> None:
    """What runs there goes on; nothing new comes."""
    system("label", "nodes", *nodes, f"{_OPEN}-")


def mend_nodes(system: Kubectl) -> None:
    """Whatever has happened to them is over, and nobody may come any more."""
    close_nodes(system, *SPARE)
    devcluster("up")
    for node in SPARE:
        wait_until(lambda node=node: _is_well(system, node), 60, lambda node=node: f"{node} is not back")  # type: ignore[misc]


def _is_well(system: Kubectl, name: str) -> bool:
    """Whether a node is ready, and nothing keeps pods off it but what always does."""
    node = system.json("get", "node", name)
    ready = {each["type"]: each["status"] for each in node["status"]["conditions"]}["Ready"]
    return ready == "True" and [taint["key"] for taint in node["spec"].get("taints", [])] == [_SPARE]


def _pull(jobs: Jobs, image: str) -> None:
    """It is on both nodes: no attempt waits for it later."""
    pods = {f"pulls-on-{node}": node for node in SPARE}
    for name, node in pods.items():
        container = {"name": "pulls", "image": image, "command": ["true"]}
        spec = {"nodeName": node, "containers": [container], "restartPolicy": "Never"}
        document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        jobs.kubectl("create", "-f", "-", document=document)
    for name in pods:
        jobs.kubectl("wait", f"pod/{name}", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=180s")
    jobs.kubectl("delete", "pod", *pods)
