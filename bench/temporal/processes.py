"""Programs of one measurement: started, ended, and what they used.

They end with the measurement however that ends, by SIGKILL too: the kernel sees to that (PR_SET_PDEATHSIG). Ctrl-C of a
terminal reaches the measurement alone, which then ends them in their order.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from bench.cluster.errors import BenchError
from bench.cluster.usage import PROC, TICKS, Usage

END_SECONDS: Final = 20.0
_LAST_LINES: Final = 3
_LONGEST_LINE: Final = 400
_PORTS: Final = range(20_000, 30_000)


@asynccontextmanager
async def running(
    command: Sequence[str | Path],
    log: Path,
    *,
    user: str | None = None,
    environment: Mapping[str, str] | None = None,
    stop: signal.Signals = signal.SIGTERM,
) -> AsyncIterator[Process]:
    """A program until the end of the block.

    Args:
        command: The program with its arguments.
        log: What it says goes there.
        user: As whom it runs; None: as this program does.
        environment: Variables beside those of this program.
        stop: The signal that ends it.
    """
    with log.open("ab") as said:
        process = await asyncio.create_subprocess_exec(
            *_as_child(user),
            *command,
            stdin=DEVNULL,
            stdout=said,
            stderr=STDOUT,
            cwd=log.parent,
            env=os.environ | (environment or {}),
            start_new_session=True,
        )
    try:
        yield process
    finally:
        await _end(process, stop)


async def done(
    command: Sequence[str | Path], log: Path, *, user: str | None = None, environment: Mapping[str, str] | None = None
) -> None:
    """Runs a program to its end.

    Raises:
        BenchError: it failed; with what it said last.
    """
    async with running(command, log, user=user, environment=environment) as process:
        if await process.wait():
            raise BenchError(failed(Path(command[0]).name, process, log))


def told(*command: str | Path) -> str:
    """What a program says of itself, at once.

    Raises:
        BenchError: it is not there, or fails.
    """
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        raise BenchError(f"{command[0]} does not run ({error}), expected it to say what it is; install it") from error


def failed(name: str, process: Process, log: Path) -> str:
    """A sentence for a program that has ended, with what it said last."""
    lines = [line[:_LONGEST_LINE] for line in log.read_text(errors="replace").splitlines()]
    last = " / ".join(lines[-_LAST_LINES:])
    return f"{name} ended with status {process.returncode}, expected it to do its work; it said: {last or 'nothing'}"


def _as_child(user: str | None) -> list[str]:
    command = ["setpriv", "--pdeathsig", "KILL"]
    return [*command, *(("--reuid", user, "--regid", user, "--init-groups") if user else ()), "--"]


async def _end(process: Process, stop: signal.Signals) -> None:
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.send_signal(stop)
    try:
        async with asyncio.timeout(END_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def used(pid: int, proc: Path = PROC) -> Usage:
    """CPU time of a process and of all that it has started, those that have ended too; memory of those that run.

    Pages that processes share are counted once, as the most that one of them has: a database's buffers would otherwise
    be as many times there as it has connections.

    Raises:
        ProcessLookupError: it has ended.
    """
    seconds, own, shared = 0.0, 0, 0
    for each in _family(pid, proc):
        try:
            ticks, mine, others = _read(proc / str(each))
        except (FileNotFoundError, ProcessLookupError) as error:
            if each == pid:
                raise ProcessLookupError(f"process {pid} has ended") from error
            continue
        seconds += ticks / TICKS
        own += mine
        shared = max(shared, others)
    return Usage(seconds, own + shared)


def _family(pid: int, proc: Path) -> Iterator[int]:
    yield pid
    for told in (proc / str(pid) / "task").glob("*/children"):
        with suppress(OSError):
            for child in told.read_text().split():
                yield from _family(int(child), proc)


def _read(folder: Path) -> tuple[int, int, int]:
    """Clock ticks, with those of children that have ended; bytes of its own; bytes that others may share."""
    stat = (folder / "stat").read_text()
    ticks = sum(map(int, stat[stat.rindex(")") + 2 :].split()[11:15]))
    rows = (line.split() for line in (folder / "status").read_text().splitlines())
    kilobytes = {row[0]: int(row[1]) for row in rows if row and row[0].startswith("Rss")}
    shared = kilobytes.get("RssFile:", 0) + kilobytes.get("RssShmem:", 0)
    return ticks, kilobytes.get("RssAnon:", 0) << 10, shared << 10


def unused_ports(number: int) -> list[int]:
    """So many ports of loopback that nobody listens on now, and that nobody is given by chance.

    Temporal keeps its ports in PostgreSQL in 15 bits, so those that the kernel gives away would not do.

    Raises:
        BenchError: there are not so many.
    """
    found: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        if len(found) == number:
            break
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
    if len(found) < number:
        raise BenchError(f"found {len(found)} unused ports from {_PORTS[0]} to {_PORTS[-1]}, expected {number}")
    return found
