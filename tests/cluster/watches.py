"""What a watch of kubectl's own shows: independent of everything of ours."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tests.cluster.conftest import Document, Kubectl


@contextmanager
def watching(kubectl: Kubectl, what: str, take: Callable[[Document], None]) -> Iterator[None]:
    """Passes on every event of a kind in a namespace while the context lasts; a watch that breaks is begun again."""
    stop = threading.Event()
    running: list[subprocess.Popen[bytes]] = []

    def follow() -> None:
        while not stop.is_set():
            command = kubectl.command("get", what, "--watch", "--output-watch-events", "-o", "json")
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
                running[:] = [process]
                for line in process.stdout or []:
                    with suppress(ValueError):  # a line that was cut off comes again
                        take(json.loads(line))
            stop.wait(1)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        for process in running:
            process.kill()
        thread.join(10)
