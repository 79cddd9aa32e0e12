"""A PostgreSQL of one's own, and a Temporal that is told to use it."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from bench.cluster.errors import BenchError
from bench.temporal import build, postgres, processes, servers
from bench.temporal.postgres import Database

THERE = Database(pid=1, port=5432, password="secret", data=Path("/data"))
INSTALLED = any(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


@pytest.fixture
def nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "_DEBIAN", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))


def test_without_postgresql_it_is_said_what_to_install(nothing_installed: None) -> None:
    with pytest.raises(BenchError, match=r"apt-get install postgresql\), or leave .* --without postgresql"):
        postgres.programs()


def test_the_newest_postgresql_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("9.6", "15", "17"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin/initdb").touch()
    monkeypatch.setattr(postgres, "_DEBIAN", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    assert postgres.programs() == tmp_path / "17/bin"


def test_root_needs_somebody_whom_the_database_runs_as(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "15/bin").mkdir(parents=True)
    (tmp_path / "15/bin/initdb").touch()
    monkeypatch.setattr(postgres, "_DEBIAN", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(postgres, "USER", "nobody-of-this-name")

    with pytest.raises(BenchError, match="found no user nobody-of-this-name"):
        postgres.programs()


def test_every_service_has_ports_of_its_own_on_loopback() -> None:
    told = postgres.configuration(THERE, list(range(7000, 7008)))

    services = [service["rpc"] for service in told["services"].values()]
    assert sorted(port for rpc in services for port in (rpc["grpcPort"], rpc["membershipPort"])) == list(
        range(7000, 7008)
    )
    assert all(rpc["bindOnLocalHost"] for rpc in services)
    assert told["services"]["frontend"]["rpc"]["grpcPort"] == 7000
    assert told["publicClient"]["hostPort"] == "127.0.0.1:7000"


def test_both_stores_are_in_the_database() -> None:
    stores = postgres.configuration(THERE, list(range(8)))["persistence"]["datastores"]

    assert {store["sql"]["databaseName"] for store in stores.values()} == {"temporal", "temporal_visibility"}
    assert {store["sql"]["connectAddr"] for store in stores.values()} == {"127.0.0.1:5432"}


def test_the_server_that_is_built_is_the_one_within_the_development_server() -> None:
    pinned = re.search(r"go\.temporal\.io/server v(\S+)", (build.MODULE / "go.mod").read_text())
    told = subprocess.run(
        [Path(sys.executable).with_name("temporal"), "--version"], capture_output=True, text=True, check=True
    )

    assert pinned
    assert pinned[1] == build.VERSION
    assert f"Server {build.VERSION}" in told.stdout


@pytest.mark.skipif(not INSTALLED, reason="PostgreSQL is not installed")
async def test_a_database_forgets_no_commit_and_leaves_nothing() -> None:
    # Where another user than root finds it.
    with servers.folder(Path("/var/tmp")) as place:
        async with postgres.database(place) as there:
            told = [await _ask(there, password) for password in (there.password, "wrong")]
            owner = there.data.stat().st_uid
        ended = not (there.data / "postmaster.pid").exists()

    assert told == [(0, "on on\n"), (2, "")]
    assert owner != 0, "root's PostgreSQL is nobody's"
    assert ended, "it tidied up"
    with pytest.raises(ProcessLookupError):
        processes.used(there.pid)
    assert not place.exists()


async def _ask(there: Database, password: str) -> tuple[int | None, str]:
    """Status and answer."""
    process = await asyncio.create_subprocess_exec(
        postgres.programs() / "psql", "-h", "127.0.0.1", "-p", str(there.port), "-U", "temporal", "-d", "postgres",
        "-Atc", "SELECT concat_ws(' ', current_setting('fsync'), current_setting('synchronous_commit'))",
        env=os.environ | {"PGPASSWORD": password}, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    answer, _ = await process.communicate()
    return process.returncode, answer.decode()
