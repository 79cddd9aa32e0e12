"""A running cluster, as tests drive it: through its own command line and API."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from perdure_devcluster.api import Api
from perdure_devcluster.cluster import Cluster
from perdure_devcluster.credentials import Credentials
from perdure_devcluster.errors import CommandFailed
from perdure_devcluster.objects import node_is_ready
from perdure_devcluster.paths import SOURCE
from perdure_devcluster.waiting import wait_for


@dataclass(frozen=True)
class RunningCluster:
    """One that is up."""

    cluster: Cluster
    api: Api

    def as_user(self, user: str) -> Api:
        """The API server, as one of those who sign in with a token."""
        return Api(self.api.authority, Credentials(self.cluster.paths.credentials).token(user))

    def devcluster(self, *arguments: str) -> str:
        """Run a devcluster command; return its standard output."""
        result = subprocess.run(
            [sys.executable, "-m", "perdure_devcluster", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
        )
        if result.returncode != 0:
            raise CommandFailed(f"`devcluster {' '.join(arguments)}` ended with {result.returncode}: {result.stderr}")
        return result.stdout

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl; return its standard output."""
        return self.devcluster("kubectl", *arguments)

    def create(self, manifest: dict[str, Any]) -> None:
        """Create an object."""
        plural = {"Pod": "pods", "Job": "jobs", "Service": "services"}[manifest["kind"]]
        prefix = "/apis/batch/v1" if manifest["kind"] == "Job" else "/api/v1"
        self.api.create(f"{prefix}/namespaces/{manifest['metadata']['namespace']}/{plural}", manifest)

    def wait_for_node(self, name: str, *, ready: bool, timeout_seconds: float) -> None:
        """Until a node is Ready, or is not."""
        wait_for(
            lambda: node_is_ready(self.api.get(f"/api/v1/nodes/{name}")) == ready,
            what=f"{name} to be {'Ready' if ready else 'NotReady'}",
            timeout_seconds=timeout_seconds,
        )

    def wait_for_job(self, namespace: str, name: str, timeout_seconds: float = 60) -> None:
        """Until a Job is complete."""
        path = f"/apis/batch/v1/namespaces/{namespace}/jobs/{name}"

        def complete() -> bool:
            conditions = self.api.get(path)["status"].get("conditions", [])
            return any(entry["type"] == "Complete" and entry["status"] == "True" for entry in conditions)

        wait_for(complete, what=f"Job {name} to be complete", timeout_seconds=timeout_seconds)

    def pod(self, namespace: str, name: str) -> dict[str, Any]:
        """Read a pod."""
        return self.api.get(f"/api/v1/namespaces/{namespace}/pods/{name}")

    def wait_for_phase(self, namespace: str, name: str, phase: str, timeout_seconds: float = 30) -> None:
        """Until a pod is in a phase."""
        wait_for(
            lambda: self.pod(namespace, name)["status"].get("phase") == phase,
            what=f"pod {name} to be {phase}",
            timeout_seconds=timeout_seconds,
        )


def pod_manifest(namespace: str, name: str, image: str, *command: str, **spec: Any) -> dict[str, Any]:
    """A pod of one container that is not started again."""
    container = {"name": "main", "image": image, "command": list(command)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "containers": [container | spec.pop("container", {})],
            **spec,
        },
    }


def job_manifest(namespace: str, name: str, image: str, *command: str) -> dict[str, Any]:
    """A Job of one pod."""
    pod = pod_manifest(namespace, name, image, *command)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"template": {"spec": pod["spec"]}},
    }
