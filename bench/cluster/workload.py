"""What is measured: jobs whose pod does nothing, as plain Jobs and as TrainingJobs, on nodes that are not there."""

from __future__ import annotations

from typing import Final

from bench.cluster.api import Document
from perdure_api import names
from perdure_devcluster import kwok

PLAIN: Final = "Job"
OURS: Final = names.KIND
KINDS: Final = (PLAIN, OURS)
ENDS: Final = ("true",)
STAYS: Final = ("sleep", "infinity")
"""KWOK's pods that sleep run until somebody ends them."""
_IMAGE: Final = "bench/nothing:1"
"""Nobody pulls it: there is no container."""
_BATCH: Final = "/apis/batch/v1/namespaces"
_PERDURE: Final = f"/apis/{names.API_VERSION}/namespaces"


def jobs_path(namespace: str) -> str:
    """Where Jobs are."""
    return f"{_BATCH}/{namespace}/jobs"


def pods_path(namespace: str) -> str:
    """Where pods are."""
    return f"/api/v1/namespaces/{namespace}/pods"


def trainingjobs_path(namespace: str) -> str:
    """Where TrainingJobs are."""
    return f"{_PERDURE}/{namespace}/{names.PLURAL}"


def path_of(kind: str, namespace: str) -> str:
    """Where objects of one of KINDS are created."""
    return jobs_path(namespace) if kind == PLAIN else trainingjobs_path(namespace)


def manifest(kind: str, name: str, command: tuple[str, ...] = ENDS) -> Document:
    """One job: one of KINDS, whose pod runs a command on KWOK's nodes."""
    return plain_job(name, command) if kind == PLAIN else training_job(name, command)


def plain_job(name: str, command: tuple[str, ...]) -> Document:
    """A Job that says no more than is needed to do what a TrainingJob's attempt does: one pod, no second try."""
    container = {"name": "trainer", "image": _IMAGE, "command": list(command)}
    pod = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "nodeSelector": dict(kwok.NODE_SELECTOR),
        "tolerations": [dict(kwok.TOLERATION)],
        "containers": [container],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": PLAIN,
        "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": {"spec": pod}},
    }


def training_job(name: str, command: tuple[str, ...]) -> Document:
    """A TrainingJob with a trainer of its own."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": OURS,
        "metadata": {"name": name},
        "spec": {
            "trainer": {"image": _IMAGE, "command": list(command)},
            "resources": {"nodeSelector": dict(kwok.NODE_SELECTOR), "tolerations": [dict(kwok.TOLERATION)]},
        },
    }
