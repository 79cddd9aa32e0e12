"""The frame of a benchmark on the cluster: one at a time, leftovers first, and nothing left behind."""

from __future__ import annotations

import asyncio
import fcntl
import signal
import sys
from argparse import Namespace
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

from bench.cluster.errors import BenchError
from bench.cluster.installation import ROOT, Installation, devcluster, installed
from bench.cluster.namespaces import clear_leftovers

BUILD: Final = ROOT / "build/bench"
INTERRUPTED: Final = 130
NODES: Final = 10
"""Nodes that are not there: enough for the scheduler to have a choice."""


@asynccontextmanager
async def session(nodes: int = NODES) -> AsyncIterator[Installation]:
    """The installation, with KWOK's nodes and without what an earlier run has left; the nodes go afterwards.

    Args:
        nodes: How many; without any nobody looks which processes run.

    Raises:
        BenchError: there is no cluster, no Perdure, or another benchmark is using them.
    """
    with alone(BUILD / "lock"):
        async with installed() as installation:
            await clear_leftovers(installation.api)
            if not nodes:
                yield installation
                return
            await asyncio.to_thread(devcluster, "kwok", "--nodes", str(nodes))
            try:
                await installation.find_processes()
                yield installation
            finally:
                await asyncio.to_thread(devcluster, "kwok", "--nodes", "0")


def finished(work: Coroutine[Any, Any, int], go_on: str) -> int:
    """Does the work; its exit code, with a sentence instead of a trace where a person can do something.

    Args:
        work: The benchmark; Ctrl-C and SIGTERM cancel it, and it cleans up.
        go_on: What to do after it was interrupted.
    """
    code = 0
    try:
        code = asyncio.run(_cancelled_by_sigterm(work))
    except* BenchError as group:
        for error in _each(group):
            print(f"bench: {error}", file=sys.stderr)
        code = 1
    except* (KeyboardInterrupt, asyncio.CancelledError):
        print(f"bench: interrupted, and cleaned up. {go_on}", file=sys.stderr)
        code = INTERRUPTED
    return code


def measured(
    command: str, wanted: Namespace, measure: Callable[[Namespace], Coroutine[Any, Any, int]], show: Callable[[], int]
) -> int:
    """Measures, or shows what was measured before; the exit code.

    Args:
        command: The benchmark, as make knows it.
        wanted: What is asked for; `show` says which of both, `results` where the raw results are.
        measure: Measures it.
        show: Shows it.
    """

    async def shown() -> int:
        return show()

    go_on = f'Go on with: make {command} BENCH="--go-on", which keeps what is in {wanted.results}.'
    return finished(shown() if wanted.show else measure(wanted), go_on)


async def _cancelled_by_sigterm(work: Coroutine[Any, Any, int]) -> int:
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def _each(group: BaseExceptionGroup[BenchError]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _each(error)
        else:
            yield error


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """No other benchmark of this checkout until the end of the block.

    Raises:
        BenchError: there is one.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BenchError(
                "found another benchmark at work in this checkout, expected none beside this one; wait, or end it"
            ) from error
        yield
