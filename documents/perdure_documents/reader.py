"""Documents read in a child process, since nobody knows what is in them: bounded in memory and in time.

A document that breaks its reader costs the reader, never the worker. The child has none of the worker's environment,
and so no credentials.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from threading import Event, Lock, Timer
from typing import Any, Final

from perdure_documents.child import receive, send
from perdure_documents.chunks import Chunk, Chunking
from perdure_documents.formats import format_of
from perdure_documents.refusals import Problem, Refused

SECONDS: Final = 60.0
"""For one document."""
MEMORY_BYTES: Final = 1 << 30
"""Of address space; Python and the parsers take 150 MB of it."""


class DocumentReader:
    """One child process, begun when it is needed and again when a document has broken it. Safe between threads."""

    def __init__(self, *, seconds: float = SECONDS, memory_bytes: int = MEMORY_BYTES) -> None:
        self._seconds = seconds
        self._memory_bytes = memory_bytes
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = Lock()

    def chunks(self, name: str, content: bytes, chunking: Chunking) -> list[Chunk]:
        """The chunks of a document, in its order.

        Raises:
            Refused: it cannot be read, or not with so much memory and in so much time.
        """
        format_of(name, content)
        wish = {"name": name, "size": chunking.size, "overlap": chunking.overlap}
        with self._lock:
            answer = self._ask(json.dumps(wish).encode(), content)
        if "problem" in answer:
            raise Refused(Problem(answer["problem"]), answer["message"])
        return [Chunk(**{**each, "headings": tuple(each["headings"])}) for each in answer["chunks"]]

    def close(self) -> None:
        """Ends the child."""
        with self._lock:
            self._end()

    def _ask(self, wish: bytes, content: bytes) -> dict[str, Any]:
        child = self._child = self._child or self._begin()
        assert child.stdin is not None  # noqa: S101 - a pipe
        assert child.stdout is not None  # noqa: S101 - as well
        late = Event()

        def give_up() -> None:
            late.set()
            child.kill()

        timer = Timer(self._seconds, give_up)
        timer.daemon = True
        timer.start()
        try:
            send(child.stdin, wish)
            send(child.stdin, content)
            answer = receive(child.stdout)
        except BrokenPipeError:
            answer = None
        finally:
            timer.cancel()
        if answer is not None and not late.is_set():
            told: dict[str, Any] = json.loads(answer)
            return told
        self._end()
        if late.is_set():
            raise Refused(
                Problem.TOO_SLOW, f"is not read within {self._seconds:g} s; save it again, or cut it into several"
            )
        raise Refused(Problem.TOO_LARGE, "takes more memory to read than is given; cut it into several")

    def _begin(self) -> subprocess.Popen[bytes]:
        # Where Python finds us, and nothing else of what the worker knows.
        environment = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-m", "perdure_documents.child", str(self._memory_bytes)]
        return subprocess.Popen(  # noqa: S603 - ourselves
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        for stream in (child.stdin, child.stdout):
            if stream:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        child.wait()
