"""The installed product, used as its users do: kubectl, an object store, nothing else.

`make install` has put the chart into the development cluster; these tests make namespaces of their own in it.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from perdure_api.uri import parse_uri
from perdure_data.stores import Stores
from tests.conftest import binary
from tests.trainer import tiny

ROOT = Path(__file__).parents[2]
SYSTEM = "perdure-system"
BUCKET = "s3://perdure-tests"
Document = dict[str, Any]


@dataclass(frozen=True)
class Kubectl:
    """kubectl in one namespace."""

    kubeconfig: str
    namespace: str
    program: Path = field(default_factory=lambda: binary("kubectl"))

    def command(self, *arguments: str) -> list[str]:
        return [str(self.program), "--kubeconfig", self.kubeconfig, "-n", self.namespace, *arguments]

    def __call__(self, *arguments: str, document: object = None, check: bool = True) -> str:
        result = self.run(*arguments, document=document)
        assert not check or result.returncode == 0, f"kubectl {' '.join(arguments)}: {result.stderr}"
        return result.stdout

    def run(self, *arguments: str, document: object = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            input=None if document is None else json.dumps(document),
            capture_output=True,
            text=True,
            check=False,
        )

    def json(self, *arguments: str) -> Document:
        document: Document = json.loads(self(*arguments, "-o", "json"))
        return document

    def items(self, *arguments: str) -> list[Document]:
        items: list[Document] = self.json("get", *arguments)["items"]
        return items


@dataclass
class Jobs:
    """TrainingJobs of one test namespace."""

    kubectl: Kubectl
    base_image: str
    wait_seconds: float = 120
    created: list[str] = field(default_factory=list)

    def create(self, name: str, spec: Document) -> None:
        self.kubectl("create", "-f", "-", document=training_job(name, spec))
        self.created.append(name)

    def own(self, *command: str, **parts: Any) -> Document:
        """The spec of a job that runs a command in a plain image."""
        return {"trainer": {"image": self.base_image, "command": list(command), **parts.pop("trainer", {})}, **parts}

    def get(self, name: str) -> Document:
        return self.kubectl.json("get", "trainingjob", name)

    def until(self, name: str, holds: Callable[[Document], bool], seconds: float | None = None) -> Document:
        """The job, as soon as something holds of it."""
        job = {}

        def look() -> bool:
            nonlocal job
            job = self.get(name)
            return holds(job)

        wait_until(look, seconds or self.wait_seconds, lambda: f"{name} stayed at {json.dumps(job.get('status'))}")
        return job

    def finished(self, name: str, seconds: float | None = None) -> Document:
        return self.until(name, lambda job: condition(job, "Succeeded").get("status") in {"True", "False"}, seconds)

    def warnings(self, name: str) -> list[str]:
        """Reasons of the Warning Events about a job."""
        uid = self.get(name)["metadata"]["uid"]
        events = self.kubectl.items("events", "--field-selector", f"involvedObject.uid={uid}")
        return [event["reason"] for event in events if event["type"] == "Warning"]

    def describe(self, name: str) -> str:
        """What `perdure describe` says of a job."""
        told = subprocess.run(
            [sys.executable, "-m", "perdure_cli", "describe", name, "-n", self.kubectl.namespace],
            env={**os.environ, "KUBECONFIG": self.kubectl.kubeconfig},
            capture_output=True,
            text=True,
            check=False,
        )
        assert told.returncode == 0, told.stderr
        return told.stdout

    def pods(self, name: str) -> list[Document]:
        return self.kubectl.items("pods", "-l", f"perdure.dev/trainingjob-uid={self.get(name)['metadata']['uid']}")


def kill_pods(system: Kubectl, component: str) -> None:
    """Deletes all pods of a component of Perdure, without giving them time."""
    system("delete", "pod", "-l", f"app.kubernetes.io/component={component}", "--force", "--grace-period=0")


def training_job(name: str, spec: Document) -> Document:
    return {"apiVersion": "perdure.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": name}, "spec": spec}


def condition(job: Document, type_: str) -> Document:
    found = [each for each in job.get("status", {}).get("conditions", []) if each["type"] == type_]
    return found[0] if found else {}


def phase(job: Document) -> str:
    return str(job.get("status", {}).get("phase"))


def step(job: Document) -> int:
    return int(job["status"].get("progress", {}).get("step") or 0)


def wait_until(holds: Callable[[], bool], seconds: float, otherwise: Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"after {seconds:.0f} s: {otherwise()}"
        time.sleep(0.25)


def kubeconfig_of_the_cluster() -> str:
    found = subprocess.run(
        [ROOT / "devcluster" / "devcluster", "kubeconfig"], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert Path(found).exists(), "no development cluster; run `make install` first"
    return found


@pytest.fixture(scope="session")
def kubeconfig() -> str:
    return kubeconfig_of_the_cluster()


@pytest.fixture(scope="session")
def system(kubeconfig: str) -> Kubectl:
    """kubectl in the namespace that Perdure is installed in."""
    kubectl = Kubectl(kubeconfig, SYSTEM)
    ready = kubectl.run(
        "rollout", "status", "deployment/perdure-operator", "deployment/perdure-worker", "--timeout=120s"
    )
    assert ready.returncode == 0, f"Perdure is not installed; run `make install` first: {ready.stderr}"
    return kubectl


def loaded_base_image() -> str:
    """Debian's Python, as pods name it."""
    devcluster = ROOT / "devcluster" / "devcluster"
    local = subprocess.run([devcluster, "base-image"], capture_output=True, text=True, check=True).stdout.strip()
    loaded = subprocess.run([devcluster, "load-image", local], capture_output=True, text=True, check=True)
    return loaded.stdout.strip()


@pytest.fixture(scope="session")
def base_image() -> str:
    return loaded_base_image()


def trainer_image(system: Kubectl) -> str:
    """The built-in trainer's, as pods name it."""
    (container,) = system.json("get", "deployment", "perdure-worker")["spec"]["template"]["spec"]["containers"]
    (image,) = [each["value"] for each in container["env"] if each["name"] == "PERDURE_TRAINER_IMAGE"]
    return str(image)


def store_credentials(system: Kubectl) -> dict[str, str]:
    """The installed store's, as its Secret has them."""
    return dict(system.json("get", "secret", "perdure-object-store")["data"])


@pytest.fixture(scope="session")
def store_secret(system: Kubectl) -> dict[str, str]:
    return store_credentials(system)


_namespaces = itertools.count(1)


@pytest.fixture(scope="module")
def jobs(system: Kubectl, base_image: str, store_secret: dict[str, str]) -> Iterator[Jobs]:
    """A namespace of the module's own, with the store's credentials in it; gone with everything afterwards."""
    with working_namespace(system, f"test-{os.getpid()}-{next(_namespaces)}", store_secret) as kubectl:
        yield Jobs(kubectl, base_image)


@contextmanager
def working_namespace(system: Kubectl, name: str, store_secret: dict[str, str]) -> Iterator[Kubectl]:
    """A namespace in which jobs reach the installed store; gone with everything afterwards."""
    kubectl = Kubectl(system.kubeconfig, name)
    kubectl("create", "namespace", name)
    try:
        metadata = {"name": "perdure-object-store"}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": store_secret}
        kubectl("create", "-f", "-", document=secret)
        yield kubectl
    finally:
        kubectl.run("delete", "namespace", name, "--wait=false")


@contextmanager
def installed_store(system: Kubectl, secret: dict[str, str]) -> Iterator[Stores]:
    """The installed object store, at the cluster address that it has now: an installation gets a new one."""
    service = system.json("get", "service", "perdure-seaweedfs")["spec"]
    environment = {name: base64.b64decode(value).decode() for name, value in secret.items()}
    environment |= {"AWS_ENDPOINT_URL": f"http://{service['clusterIP']}:8333", "AWS_REGION": "us-east-1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield Stores()


@pytest.fixture(scope="module")
def stores(system: Kubectl, store_secret: dict[str, str]) -> Iterator[Stores]:
    with installed_store(system, store_secret) as stores:
        yield stores


@pytest.fixture(scope="session")
def tiny_inputs(system: Kubectl, store_secret: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Document:
    with installed_store(system, store_secret) as stores:
        return put_tiny_inputs(stores, tmp_path_factory.mktemp("inputs"))


def put_tiny_inputs(stores: Stores, folder: Path) -> Document:
    """Spec parts of a tiny model and a dataset that it can learn, both in the store."""
    tiny.write_model(folder / "model")
    tiny.write_dataset(folder / "train.jsonl")
    for file in (folder / "model").iterdir():
        stores.put(parse_uri(f"{BUCKET}/model/{file.name}"), file.read_bytes())
    stores.put(parse_uri(f"{BUCKET}/train.jsonl"), (folder / "train.jsonl").read_bytes())
    return {
        "model": {"uri": f"{BUCKET}/model"},
        "dataset": {"uri": f"{BUCKET}/train.jsonl"},
        "output": {"uri": f"{BUCKET}/out"},
        "lora": {"rank": 4},
        "training": {"maxSteps": 12, "batchSize": 4, "sequenceLength": 16, "learningRate": 0.01},
        "checkpoint": {"everySteps": 4},
    }
