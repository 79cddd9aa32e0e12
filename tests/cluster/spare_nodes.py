"""Nodes more, for pods that ask for them: what is done to these disturbs no other test.

They come in pairs, one for each file of tests that wants some, so that such files can run side by side.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TextIO

from perdure_devcluster.paths import paths_from_environment
from tests.cluster.commands import devcluster
from tests.cluster.conftest import Document, Jobs, Kubectl, phase, trainer_image, wait_until

GPUS = 4
"""What each of them offers."""
ALWAYS_THERE = 2
_SPARE = "perdure.test/spare"
_OPEN = "perdure.test/open"
TOLERATION = {"key": _SPARE, "operator": "Exists"}


@dataclass(frozen=True)
class Pair:
    """Two nodes that one file of tests has for itself."""

    name: str
    first: str
    second: str

    @property
    def nodes(self) -> tuple[str, str]:
        return self.first, self.second

    def asked_for(self, spec: Document, **resources: Any) -> Document:
        """A job's spec, for those of the two nodes that are open."""
        place = {"nodeSelector": {_OPEN: self.name}, "tolerations": [TOLERATION]}
        return {**spec, "resources": {**spec.get("resources", {}), **resources, **place}}

    def open(self, system: Kubectl, *nodes: str) -> None:
        """Jobs that ask for nodes of the pair find places on these."""
        system("label", "nodes", *nodes, f"{_OPEN}={self.name}", "--overwrite")

    def begin_on_first(self, jobs: Jobs, system: Kubectl, name: str, spec: Document) -> Document:
        """The pod of a job's first attempt, on the first of the two; afterwards the second one is open too."""
        self.open(system, self.first)
        jobs.create(name, self.asked_for(spec))
        jobs.until(name, lambda job: phase(job) == "Running", 180)
        self.open(system, self.second)
        (pod,) = jobs.pods(name)
        assert pod["spec"]["nodeName"] == self.first
        return pod

    def close(self, system: Kubectl, *nodes: str) -> None:
        """What runs there goes on; nothing new comes."""
        system("label", "nodes", *nodes, f"{_OPEN}-")

    def mend(self, system: Kubectl) -> None:
        """Whatever has happened to them is over, and nobody may come any more."""
        self.close(system, *self.nodes)
        for node in self.nodes:
            # Not `up`, which mends every node: those of the other pair may be broken on purpose.
            devcluster("start-node", node)
            devcluster("heal-node", node)
            devcluster("start-component", f"{node}/kubelet")
        for node in self.nodes:
            wait_until(lambda node=node: _is_well(system, node), 60, lambda node=node: f"{node} is not back")  # type: ignore[misc]


BREAKS = Pair("breaks", "n3", "n4")
"""Nodes that are killed and cut off."""
FILLS = Pair("fills", "n5", "n6")
"""Nodes that stay whole, and have room or none."""
_ALL = (*BREAKS.nodes, *FILLS.nodes)


@contextmanager
def spare_nodes(pair: Pair, jobs: Jobs, system: Kubectl) -> Iterator[None]:
    """They are there, empty but for the trainer's image; they go when nobody uses any of them."""
    with _used(system):
        _pull(jobs, pair, trainer_image(system))
        yield


@contextmanager
def _used(system: Kubectl) -> Iterator[None]:
    """All of them are there: whoever comes first has brought them, whoever leaves last takes them away.

    Locks rather than a count, since nobody keeps a lock beyond his death.
    """
    state = paths_from_environment(os.environ).state
    with (state / "spare-nodes.turn").open("w") as turn, (state / "spare-nodes.use").open("w") as use:
        try:
            fcntl.flock(turn, fcntl.LOCK_EX)
            if _alone(use):
                for node in _ALL:
                    # Closed before they are there: in a moment between, pods of other tests would find places on them.
                    system("apply", "-f", "-", document=_closed(node))
                devcluster("up", "--nodes", str(ALWAYS_THERE + len(_ALL)))
            fcntl.flock(use, fcntl.LOCK_SH)
            fcntl.flock(turn, fcntl.LOCK_UN)
            yield
        finally:
            fcntl.flock(turn, fcntl.LOCK_EX)
            if _alone(use):
                devcluster("up", "--nodes", str(ALWAYS_THERE))


def _alone(use: TextIO) -> bool:
    """Whether nobody else uses spare nodes."""
    try:
        fcntl.flock(use, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _closed(node: str) -> Document:
    """A node that its kubelet will find, with the taint, and take for its own."""
    taint = {"key": _SPARE, "value": "true", "effect": "NoSchedule"}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}, "spec": {"taints": [taint]}}


def _is_well(system: Kubectl, name: str) -> bool:
    """Whether a node is ready, and nothing keeps pods off it but what always does."""
    node = system.json("get", "node", name)
    ready = {each["type"]: each["status"] for each in node["status"]["conditions"]}["Ready"]
    return ready == "True" and [taint["key"] for taint in node["spec"].get("taints", [])] == [_SPARE]


def _pull(jobs: Jobs, pair: Pair, image: str) -> None:
    """It is on both nodes: no attempt waits for it later."""
    pods = {f"pulls-on-{node}": node for node in pair.nodes}
    for name, node in pods.items():
        container = {"name": "pulls", "image": image, "command": ["true"]}
        spec = {"nodeName": node, "containers": [container], "restartPolicy": "Never"}
        document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        jobs.kubectl("create", "-f", "-", document=document)
    for name in pods:
        jobs.kubectl("wait", f"pod/{name}", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=180s")
    jobs.kubectl("delete", "pod", *pods)
