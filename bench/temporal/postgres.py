"""A Temporal server on PostgreSQL: both on loopback, both only there for one measurement.

PostgreSQL is Debian's, with its data in a folder of ours, as a user who may nothing else. It is set up as for
production where that costs: every commit is on the disk before it is told, pages have checksums, whoever connects shows
a password.
Temporal's server is built from its Go module, all its services in one process, as the development server has them.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import yaml
from google.protobuf.duration_pb2 import Duration
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.service import RPCError, RPCStatusCode

from bench.cluster.errors import BenchError
from bench.temporal import processes
from bench.temporal.build import Programs
from bench.temporal.results import DATABASE, SERVER
from bench.temporal.servers import IDENTITY, NAMESPACE, Served, answering, until
from perdure_control import temporal

Command = list[str | Path]
USER: Final = "postgres"
"""As whom root runs it: PostgreSQL refuses to be root's. Debian's package makes this user."""
SETTINGS: Final = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "max_connections": "200",
}
"""The first three are its defaults too: said, because everything hangs on them."""
SHARDS: Final = 512
"""Of histories, as Temporal's own chart has it. They cannot be changed later, so an installation begins with many."""
CONNECTIONS: Final = 20
"""Of each of Temporal's two stores, as in its own example."""
_DEBIAN: Final = Path("/usr/lib/postgresql")
_OWNER: Final = "temporal"
_STORES: Final = {"temporal": "temporal", "temporal_visibility": "visibility"}
"""Databases, with the schemas that Temporal's tool has for them."""
_SERVICES: Final = ("frontend", "history", "matching", "worker")
_WANTED: Final = "install it (Debian: apt-get install postgresql), or leave this store out with --without postgresql"


@dataclass(frozen=True)
class Database:
    """A PostgreSQL that answers."""

    pid: int
    port: int
    password: str
    data: Path


def programs() -> Path:
    """The folder of PostgreSQL's own programs, the newest that is installed.

    Raises:
        BenchError: there is none, or nobody whom it may run as.
    """
    installed = sorted(_DEBIAN.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    found = str(installed[-1]) if installed else shutil.which("initdb")
    if found is None:
        raise BenchError(f"found no PostgreSQL (initdb), expected one for this store; {_WANTED}")
    if os.geteuid() == 0 and _account() is None:
        raise BenchError(f"found no user {USER}, expected the one that Debian's package makes; {_WANTED}")
    return Path(found).resolve().parent


def told(built: Programs) -> str:
    """What a figure depends on, in a sentence.

    Raises:
        BenchError: there is no PostgreSQL.
    """
    settings = ", ".join(f"{name} {value}" for name, value in SETTINGS.items())
    version = processes.told(programs() / "postgres", "--version")
    return (
        f"{version} with {settings}, page checksums and passwords; {processes.told(built.server, '--version')} with "
        f"all its services in one process, {SHARDS} shards, {CONNECTIONS} connections to each of two stores."
    )


def _account() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(USER)
    except KeyError:
        return None


@asynccontextmanager
async def server(place: Path, built: Programs) -> AsyncIterator[Served]:
    """An empty Temporal on an empty PostgreSQL.

    Raises:
        BenchError: one of them does not come up.
    """
    async with database(place) as there:
        for name, schema in _STORES.items():
            await _schema(place, built, there, name, schema)
        ports = processes.unused_ports(2 * len(_SERVICES))
        config, log = place / "temporal.yaml", place / "temporal.log"
        config.touch(mode=0o600)
        config.write_text(yaml.safe_dump(configuration(there, ports)))
        command: Command = [built.server, "--config-file", config, "--allow-no-auth", "start"]
        # Killed, for it would take its time to say good-bye to data that go with it.
        async with processes.running(command, log, stop=signal.SIGKILL) as process:
            address = f"127.0.0.1:{ports[0]}"
            await _have_namespace(address, process, log)
            client = await answering(address, process, log)
            yield Served(client, address, {SERVER: process.pid, DATABASE: there.pid}, (there.data / "base",))


@asynccontextmanager
async def database(place: Path) -> AsyncIterator[Database]:
    """An empty PostgreSQL.

    Raises:
        BenchError: there is none, or it does not come up.
    """
    bin_, user = programs(), USER if os.geteuid() == 0 else None
    home, password = place / "postgresql", secrets.token_urlsafe()
    data, log, secret = home / "data", place / "postgresql.log", home / "password"
    home.mkdir(mode=0o700)
    secret.write_text(password)
    if user:
        for path in (home, secret):
            shutil.chown(path, user, _group(user))
    initdb: Command = [bin_ / "initdb", "--pgdata", data, "--username", _OWNER, "--pwfile", secret]
    initdb += ["--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8", "--data-checksums"]
    await processes.done(initdb, log, user=user)
    (port,) = processes.unused_ports(1)
    settings = SETTINGS | {"listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": str(home)}
    command: Command = [bin_ / "postgres", "-D", data]
    command += [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
    # SIGINT: it ends now, and tidies up.
    async with processes.running(command, log, user=user, stop=signal.SIGINT) as process:
        ready: Command = [bin_ / "pg_isready", "-h", "127.0.0.1", "-p", str(port)]

        async def answers() -> None:
            if process.returncode is not None:
                raise BenchError(processes.failed("PostgreSQL", process, log))
            async with processes.running(ready, place / "ready.log") as asked:
                if await asked.wait():
                    raise ConnectionError("pg_isready says no")

        await until(answers, f"PostgreSQL at port {port}")
        yield Database(process.pid, port, password, data)


def _group(user: str) -> int:
    return pwd.getpwnam(user).pw_gid


async def _schema(place: Path, built: Programs, there: Database, name: str, schema: str) -> None:
    tool: Command = [
        built.sql_tool, "--plugin", "postgres12", "--endpoint", "127.0.0.1", "--port", str(there.port),
        "--user", _OWNER, "--database", name,
    ]  # fmt: skip
    log = place / "schema.log"
    for step in (
        ("create-database",),
        ("setup-schema", "--version", "0.0"),
        ("update-schema", "--schema-name", f"postgresql/v12/{schema}"),
    ):
        await processes.done([*tool, *step], log, environment={"SQL_PASSWORD": there.password})


def configuration(there: Database, ports: list[int]) -> dict[str, Any]:
    """Of the server: its services at these ports (two each), its two stores in the database."""
    return {
        "log": {"stdout": True, "level": "warn"},
        "persistence": {
            "defaultStore": "default",
            "visibilityStore": "visibility",
            "numHistoryShards": SHARDS,
            "datastores": {
                "default": {"sql": _store(there, "temporal")},
                "visibility": {"sql": _store(there, "temporal_visibility")},
            },
        },
        "global": {"membership": {"maxJoinDuration": "30s", "broadcastAddress": "127.0.0.1"}},
        "services": {
            service: {
                "rpc": {"grpcPort": ports[2 * place], "membershipPort": ports[2 * place + 1], "bindOnLocalHost": True}
            }
            for place, service in enumerate(_SERVICES)
        },
        "clusterMetadata": {
            "enableGlobalNamespace": False,
            "failoverVersionIncrement": 10,
            "masterClusterName": "active",
            "currentClusterName": "active",
            "clusterInformation": {
                "active": {
                    "enabled": True,
                    "initialFailoverVersion": 1,
                    "rpcName": "frontend",
                    "rpcAddress": f"127.0.0.1:{ports[0]}",
                }
            },
        },
        "publicClient": {"hostPort": f"127.0.0.1:{ports[0]}"},
    }


def _store(there: Database, name: str) -> dict[str, Any]:
    return {
        "pluginName": "postgres12",
        "databaseName": name,
        "connectAddr": f"127.0.0.1:{there.port}",
        "connectProtocol": "tcp",
        "user": _OWNER,
        "password": there.password,
        "maxConns": CONNECTIONS,
        "maxIdleConns": CONNECTIONS,
        "maxConnLifetime": "1h",
    }


async def _have_namespace(address: str, process: Process, log: Path) -> None:
    """The development server has one by itself.

    Raises:
        BenchError: the server ends instead, or does not answer in time.
    """
    request = RegisterNamespaceRequest(namespace=NAMESPACE, workflow_execution_retention_period=_days(1))

    async def asked() -> None:
        if process.returncode is not None:
            raise BenchError(processes.failed("Temporal", process, log))
        client = await temporal.connect(address, NAMESPACE, identity=IDENTITY)
        try:
            await client.workflow_service.register_namespace(request, timeout=timedelta(seconds=10))
        except RPCError as error:
            if error.status is not RPCStatusCode.ALREADY_EXISTS:
                raise

    await until(asked, f"Temporal at {address}")


def _days(days: int) -> Duration:
    duration = Duration()
    duration.FromTimedelta(timedelta(days=days))
    return duration
