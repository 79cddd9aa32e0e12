"""The demo's cluster: kubectl, and Perdure in it, installed if need be and told apart from what others installed."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
SYSTEM_NAMESPACE: Final = "perdure-system"
READY_SECONDS: Final = 300
_PART: Final = "app.kubernetes.io/part-of=perdure"
_COMPONENT: Final = f"{_PART},app.kubernetes.io/component"

NO_REGISTRY: Final = """\
found no Perdure in the cluster, and no registry that its images come from. Build and push them, and say where they are:

  docker build -f Dockerfile.cpu -t registry.example.com/ml/perdure-cpu:0.1.0 .
  docker build -f Dockerfile.gpu -t registry.example.com/ml/perdure-gpu:0.1.0 .
  docker push registry.example.com/ml/perdure-cpu:0.1.0
  docker push registry.example.com/ml/perdure-gpu:0.1.0
  CLUSTER=current REGISTRY=registry.example.com/ml make demo

Or install it in your own way, with objectStore.quickStart.enabled (docs/getting-started.md)."""


class DemoError(Exception):
    """A step that did not work; the message says which and what to do."""


@dataclass(frozen=True)
class Kubectl:
    """kubectl: the development cluster brings its own, which knows its cluster."""

    command: tuple[str, ...]

    def run(self, *arguments: str, quiet: bool = False, document: object = None) -> None:
        """Runs it; a document goes to its standard input."""
        text = None if document is None else json.dumps(document)
        run([*self.command, *arguments], quiet=quiet, text=text)

    def get(self, *arguments: str) -> dict[str, Any]:
        """An object, or a list of them under `items`; empty where there is none and --ignore-not-found is said."""
        found: dict[str, Any] = json.loads(output([*self.command, "get", *arguments, "-o", "json"]) or "{}")
        return found


@dataclass(frozen=True)
class Release:
    """Perdure as it is installed, with the object store of the quick start."""

    namespace: str
    watched: tuple[str, ...]
    """Namespaces whose TrainingJobs it runs; none: all of them."""
    store: str
    """Name of the store's Service."""
    secret: str
    """Name of the Secret with the store's credentials."""


def install_unless_there(kubectl: Kubectl, registry: str) -> None:
    """Puts the chart into the current context's cluster; a release that is there is left as it is.

    Raises:
        DemoError: there is none, and no registry to install one from; or Helm would not.
    """
    if worker := _worker(kubectl):
        print(f"  {_version(worker)} is in namespace {worker['metadata']['namespace']}, and is left as it is.")
        return
    if not registry:
        raise DemoError(NO_REGISTRY)
    print(
        f"  helm install perdure charts/perdure, with images of {registry}, a Temporal and an object store for trying"
    )
    values = {
        "image": {"registry": registry},
        "temporal": {"quickStart": {"enabled": True}},
        "objectStore": {"quickStart": {"enabled": True, "secretKey": secrets.token_urlsafe(24)}},
    }
    place = ["--namespace", SYSTEM_NAMESPACE, "--create-namespace", "--values", "-"]
    run([tool("helm"), "install", "perdure", "charts/perdure", *place], quiet=True, text=json.dumps(values))


def ready_release(kubectl: Kubectl) -> Release:
    """What is installed, once it is ready.

    Raises:
        DemoError: it does not become ready, or it has an object store that the demo does not know how to write to.
    """
    worker = _worker(kubectl)
    if worker is None:
        raise DemoError("found no Perdure in the cluster; `make install` puts it there")
    namespace = worker["metadata"]["namespace"]
    release = f"{_version(worker)} in namespace {namespace}"
    store = {
        each["kind"]: each["metadata"]["name"]
        for each in kubectl.get("services,secrets", "-n", namespace, "-l", f"{_COMPONENT}=object-store")["items"]
    }
    if set(store) != {"Service", "Secret"}:
        raise DemoError(
            f"{release} works with an object store of yours, and the demo writes only to that of the quick start; "
            "docs/getting-started.md says how to bring model and data there"
        )
    workloads = ["deployments,statefulsets", "-n", namespace, "-l", _PART]
    try:
        kubectl.run("rollout", "status", *workloads, f"--timeout={READY_SECONDS}s", quiet=True)
    except DemoError as error:
        pods = output([*kubectl.command, "get", "pods", "-n", namespace]).strip()
        raise DemoError(
            f"{release} is not ready:\n{pods}\nSee what it lacks: kubectl get events -n {namespace}; "
            f"to begin again: helm uninstall perdure -n {namespace}"
        ) from error
    return Release(namespace, _watched(worker), store["Service"], store["Secret"])


def run(command: Sequence[str], *, quiet: bool = False, text: str | None = None) -> None:
    """Runs a command in the checkout.

    Raises:
        DemoError: it did not end with 0, or is not there.
    """
    _finished(command, capture=quiet, text=text)


def output(command: Sequence[str]) -> str:
    """What a command writes to standard output; raises as `run` does."""
    return _finished(command, capture=True).stdout


def tool(name: str) -> str:
    """A program of this environment."""
    return str(Path(sys.executable).with_name(name))


def _finished(command: Sequence[str], *, capture: bool, text: str | None = None) -> subprocess.CompletedProcess[str]:
    try:
        result = subprocess.run(command, cwd=ROOT, check=False, input=text, text=True, capture_output=capture)
    except FileNotFoundError as error:
        raise DemoError(f"found no `{command[0]}`, which this needs; install it") from error
    if result.returncode != 0:
        words = f":\n{(result.stdout + result.stderr).strip()[-2000:]}" if capture else "; its own words are above"
        raise DemoError(f"`{' '.join(command)}` ended with {result.returncode}{words}")
    return result


def _worker(kubectl: Kubectl) -> dict[str, Any] | None:
    """The Deployment of the workers, by the labels that any way of installing the chart gives it."""
    found: list[dict[str, Any]] = kubectl.get("deployments", "-A", "-l", f"{_COMPONENT}=worker")["items"]
    return found[0] if found else None


def _version(worker: dict[str, Any]) -> str:
    return f"Perdure {worker['metadata']['labels']['app.kubernetes.io/version']}"


def _watched(worker: dict[str, Any]) -> tuple[str, ...]:
    (container,) = worker["spec"]["template"]["spec"]["containers"]
    (value,) = [each.get("value", "") for each in container["env"] if each["name"] == "PERDURE_WATCH_NAMESPACES"]
    return tuple(filter(None, value.split(",")))
