"""Temporals that a measurement starts on loopback, each empty, each with its data in a folder that goes with it."""

from __future__ import annotations

import asyncio
import fcntl
import shutil
import sys
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from temporalio.client import Client
from temporalio.service import RPCError

from bench.cluster.errors import BenchError
from bench.temporal import processes
from bench.temporal.results import FILE, SERVER
from perdure_control import temporal

NAMESPACE: Final = "default"
START_SECONDS: Final = 120.0
IDENTITY: Final = "bench"
PROGRAM: Final = Path(sys.executable).with_name("temporal")
_PREFIX: Final = "perdure-bench-temporal-"
_LOOK_SECONDS: Final = 0.1
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Served:
    """A Temporal that answers."""

    client: Client
    address: str
    parts: Mapping[str, int]
    """Pids of the programs that it is made of."""
    data: tuple[Path, ...]
    """Files, and folders of files, that hold its data; none: it has them in memory."""

    def disk_bytes(self) -> int:
        """Of its data."""
        return sum(_bytes(path) for path in self.data)


def _bytes(path: Path) -> int:
    try:
        return sum(map(_bytes, path.iterdir())) if path.is_dir() else path.stat().st_size
    except FileNotFoundError:  # a temporary file of the database
        return 0


@contextmanager
def folder(parent: Path) -> Iterator[Path]:
    """A new folder that goes at the end; what killed measurements have left there goes first.

    Raises:
        BenchError: there can be none.
    """
    try:
        for old in parent.glob(f"{_PREFIX}*"):
            with _locked(old) as nobodys:
                if nobodys:
                    shutil.rmtree(old, ignore_errors=True)
        made = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    except OSError as error:
        raise BenchError(f"found no place for data in {parent} ({error}); name another with --folder") from error
    try:
        # A database may run as another user, who is to find its own folder in here.
        made.chmod(0o711)
        with _locked(made):
            yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Whether nobody else holds the folder; nobody else does until the end of the block."""
    with (path / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


@asynccontextmanager
async def development_server(place: Path, store: str) -> AsyncIterator[Served]:
    """The development server, with its data in memory or in a file, as the chart's quick start has it.

    Raises:
        BenchError: it does not come up.
    """
    (port,) = processes.unused_ports(1)
    command: list[str | Path] = [
        PROGRAM, "server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port", str(port), "--log-level", "warn",
        "--namespace", NAMESPACE,
    ]  # fmt: skip
    file = place / "temporal.db"
    if store == FILE:
        pragmas = ("--sqlite-pragma", "journal_mode=WAL", "--sqlite-pragma", "synchronous=NORMAL")
        command += ["--db-filename", file, *pragmas]
    log = place / "temporal.log"
    async with processes.running(command, log) as process:
        address = f"127.0.0.1:{port}"
        client = await answering(address, process, log)
        yield Served(client, address, {SERVER: process.pid}, (file, Path(f"{file}-wal")) if store == FILE else ())


async def answering(address: str, process: Process, log: Path) -> Client:
    """A client, once the server answers to it in its namespace.

    Raises:
        BenchError: it ends instead, or does not answer in time.
    """

    async def asked() -> Client:
        if process.returncode is not None:
            raise BenchError(processes.failed("Temporal", process, log))
        client = await temporal.connect(address, NAMESPACE, identity=IDENTITY)
        await client.count_workflows("WorkflowType = 'none'")
        return client

    return await until(asked, f"Temporal at {address}")


async def until(ask: Callable[[], Awaitable[Answer]], who: str) -> Answer:
    """The first answer.

    Raises:
        BenchError: there is none in time.
    """
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return await ask()
        except (RPCError, RuntimeError, ConnectionError) as error:
            if time.monotonic() > deadline:
                raise BenchError(f"{who} does not answer within {START_SECONDS:.0f} s: {error}") from error
        await asyncio.sleep(_LOOK_SECONDS)
