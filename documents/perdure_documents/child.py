"""What runs in the child process: a document in, its chunks or a refusal out, until nobody asks any more."""

from __future__ import annotations

import json
import resource
import struct
import sys
from dataclasses import asdict
from typing import IO, Any, Final

from perdure_documents.chunks import Chunking, chunk_document
from perdure_documents.refusals import Problem, Refused

LENGTH: Final = struct.Struct(">Q")


def send(stream: IO[bytes], message: bytes) -> None:
    """Writes a message."""
    stream.write(LENGTH.pack(len(message)))
    stream.write(message)
    stream.flush()


def receive(stream: IO[bytes]) -> bytes | None:
    """Reads a message; None: there will be no more."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    length = LENGTH.unpack(head)[0]
    message = stream.read(length)
    return message if len(message) == length else None


def answer(wish: dict[str, Any], content: bytes) -> dict[str, Any]:
    """The chunks of a document, or why there are none."""
    try:
        chunks = chunk_document(wish["name"], content, Chunking(wish["size"], wish["overlap"]))
        return {"chunks": [asdict(chunk) for chunk in chunks]}
    except Refused as refused:
        return {"problem": refused.problem, "message": refused.message}
    except MemoryError:
        return {"problem": Problem.TOO_LARGE, "message": "takes more memory to read than is given; cut it into several"}
    except RecursionError:
        return {"problem": Problem.BROKEN, "message": "is nested too deep to be read; save it again"}


def main() -> None:
    """Answers until standard input ends."""
    memory_bytes = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Nothing that a library prints may get between the answers.
    out, sys.stdout = sys.stdout.buffer, sys.stderr
    while (wish := receive(sys.stdin.buffer)) is not None and (content := receive(sys.stdin.buffer)) is not None:
        send(out, json.dumps(answer(json.loads(wish), content)).encode())


if __name__ == "__main__":
    main()
