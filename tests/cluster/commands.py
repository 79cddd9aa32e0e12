"""What people type: commands of the development cluster, of helm, of Temporal, and our own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.cluster.conftest import ROOT, SYSTEM, Document, Jobs, Kubectl

CHART: Final = ROOT / "scripts" / "chart"


def devcluster(*arguments: str) -> None:
    subprocess.run([ROOT / "devcluster" / "devcluster", *arguments], check=True, capture_output=True)


def helm(system: Kubectl, *arguments: str) -> None:
    program = Path(sys.executable).with_name("helm")
    environment = {**os.environ, "KUBECONFIG": system.kubeconfig}
    result = subprocess.run(
        [program, *arguments, "--namespace", SYSTEM], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def install(*more: str) -> str:
    """What `make chart` does; what it says."""
    result = subprocess.run([CHART, *more], capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{result.stdout}{result.stderr}"
    return result.stdout


def perdure(jobs: Jobs, *arguments: str) -> str:
    command = [str(Path(sys.executable).with_name("perdure")), *arguments, "-n", jobs.kubectl.namespace]
    said = subprocess.run(
        [*command, "--kubeconfig", jobs.kubectl.kubeconfig], capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, f"perdure {' '.join(arguments)}: {said.stderr}"
    return said.stdout


def suspend(jobs: Jobs, name: str, *, suspended: bool) -> None:
    jobs.kubectl(
        "patch", "trainingjob", name, "--type=merge", "-p", f'{{"spec": {{"suspend": {str(suspended).lower()}}}}}'
    )


def temporal_address(system: Kubectl) -> str:
    """The installed Temporal's, as this machine reaches it."""
    service: Document = system.json("get", "service", "perdure-temporal")["spec"]
    return f"{service['clusterIP']}:7233"


def run_fine_tune(system: Kubectl, input_: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The command, on a machine whose environment knows no Temporal."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TEMPORAL_")}
    return subprocess.run(
        [sys.executable, "-m", "perdure_cli", "run", "fine_tune", "-f", str(input_), *options,
         "--address", temporal_address(system)],
        env=environment, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip


def temporal_workflow(system: Kubectl, verb: str, workflow_id: str, *flags: str) -> int:
    """Its exit status."""
    command = ["temporal", "workflow", verb, "--address", "127.0.0.1:7233", "--workflow-id", workflow_id, *flags]
    return system.run("exec", "perdure-temporal-0", "--", *command).returncode


def told(system: Kubectl, component: str, path: str) -> str:
    """What each ready pod of a component answers, one after the other."""
    pods = system.items("pods", "-l", f"app.kubernetes.io/component={component}")
    names = [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    base = f"/api/v1/namespaces/{system.namespace}/pods"
    return "".join(system("get", "--raw", f"{base}/{name}:8080/proxy{path}") for name in names)
