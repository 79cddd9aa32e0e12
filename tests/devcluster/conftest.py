"""The machine's development cluster, brought up for the tests that need one."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from perdure_devcluster.api import Api
from perdure_devcluster.cluster import Cluster, load_settings
from perdure_devcluster.credentials import Credentials
from perdure_devcluster.paths import paths_from_environment
from perdure_devcluster.testing import RunningCluster
from perdure_devcluster.waiting import wait_for


@pytest.fixture(scope="session")
def running() -> RunningCluster:
    """The machine's cluster, brought up where it is down; it is left running."""
    paths = paths_from_environment(os.environ)
    cluster = Cluster(paths, load_settings(paths))
    # One that is up is left as it is: another test may have broken a node of it on purpose, which `up` would mend.
    with cluster.locked():
        if not cluster.daemons.running("kube-apiserver"):
            cluster.up()
    credentials = Credentials(paths.credentials)
    return RunningCluster(cluster, Api(credentials.file("ca.crt"), credentials.token("admin")))


@pytest.fixture(scope="session")
def base_image(running: RunningCluster) -> str:
    """An image with Python in the cluster."""
    return running.devcluster("load-image", running.devcluster("base-image").strip()).strip()


@pytest.fixture
def namespace(running: RunningCluster) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"devcluster-{uuid.uuid4().hex[:8]}"
    running.api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    wait_for(lambda: running.api.find(account), what=account, timeout_seconds=15)
    yield name
    running.api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def buildah_image(tmp_path: Path, running: RunningCluster) -> Iterator[Callable[[str], str]]:
    """A function that makes an image of one text on top of the base; returns its name."""
    base = running.devcluster("base-image").strip()
    made: list[str] = []

    def make(text: str) -> str:
        (tmp_path / "text").write_text(text)
        (tmp_path / "Dockerfile").write_text(f"FROM {base}\nCOPY text /text\n")
        name = "localhost/perdure-devcluster-test:latest"
        command = ["buildah", "bud", "--quiet", "--isolation", "chroot", "--tag", name, str(tmp_path)]
        result = subprocess.run(command, check=True, capture_output=True, text=True)
        made.append(result.stdout.strip())
        return name

    yield make
    # By id: a second image takes the name from the first.
    subprocess.run(["buildah", "rmi", "--force", *made], check=True, capture_output=True)
