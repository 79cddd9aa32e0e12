"""The command, imported once and forked for each run of it: its imports alone take longer than what a test asks of it.

What runs is a process all the same, with arguments, environment, streams, folder and exit status of its own.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final, NoReturn

ROOT: Final = Path(__file__).parents[2]
PRELOADED: Final = [f"perdure_cli.{name}" for name in ("main", "runs", "letters", "looking", "searching")]
SECONDS: Final = 120
_REQUEST_BYTES: Final = 1 << 17
_STREAMS: Final = 3


async def run(
    arguments: Sequence[str], environment: Mapping[str, str], path: Sequence[str], given: bytes
) -> tuple[int, bytes, bytes]:
    """Runs `python -m perdure_cli` to its end.

    Args:
        arguments: Behind that.
        environment: All of it.
        path: Where Python looks for modules.
        given: On standard input.

    Returns:
        Exit status, standard output, standard error.

    Raises:
        TimeoutError: It has not ended within `SECONDS`.
    """
    request = {"arguments": [*arguments], "environment": dict(environment), "path": [*path], "folder": str(Path.cwd())}
    with ExitStack() as stack:
        streams = [stack.enter_context(TemporaryFile()) for _ in range(_STREAMS)]
        ours, theirs = (stack.enter_context(end) for end in socket.socketpair())
        streams[0].write(given)
        streams[0].seek(0)
        descriptors = [*(stream.fileno() for stream in streams), theirs.fileno()]
        socket.send_fds(_server(), [json.dumps(request).encode()], descriptors)
        theirs.close()
        ours.setblocking(False)
        async with asyncio.timeout(SECONDS):
            status = await asyncio.get_running_loop().sock_recv(ours, 16)
        for stream in streams[1:]:
            stream.seek(0)
        return int(status), streams[1].read(), streams[2].read()


@cache
def _server() -> socket.socket:
    """Where requests go; the server ends when nobody can send any more."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.cli.fork_server", str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        stdin=subprocess.DEVNULL,
    )
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _serve(requests: socket.socket) -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who waits for a run is nobody's to wait for
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, _REQUEST_BYTES, _STREAMS + 1)
        if not message:
            return
        if os.fork() == 0:
            requests.close()
            _run_and_tell(json.loads(message), descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _run_and_tell(request: dict[str, object], descriptors: Sequence[int]) -> NoReturn:
    """Tells how the process ended that it forks."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, told = descriptors
    child = os.fork()
    if child == 0:
        os.close(told)
        _become(streams, **request)
    _, status = os.waitpid(child, 0)
    os.write(told, str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _become(
    streams: Sequence[int], *, arguments: list[str], environment: dict[str, str], path: list[str], folder: str
) -> NoReturn:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:] = path
    sys.argv[1:] = arguments
    runpy.run_module("perdure_cli", run_name="__main__", alter_sys=True)
    sys.exit(0)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
