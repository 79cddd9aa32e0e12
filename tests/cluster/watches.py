"""What a watch of kubectl's own shows: independent of everything of ours."""

from __future__ import annotations

import json
import subprocess
import threading
from collections import defaultdict
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


class PodLog:
    """What a watch of its own shows of a namespace's pods: independent of everything of ours."""

    def __init__(self) -> None:
        self.live: dict[str, set[str]] = defaultdict(set)
        self.most_at_once: dict[str, int] = defaultdict(int)
        self.seen: dict[str, set[str]] = defaultdict(set)

    def take(self, event: Document) -> None:
        pod = event["object"]
        labels = pod["metadata"].get("labels", {})
        job, uid = labels.get("perdure.dev/trainingjob"), pod["metadata"]["uid"]
        if job is None:
            return
        self.seen[job].add(uid)
        ended = event["type"] == "DELETED" or pod["status"].get("phase") in {"Succeeded", "Failed"}
        (self.live[job].discard if ended else self.live[job].add)(uid)
        self.most_at_once[job] = max(self.most_at_once[job], len(self.live[job]))


@contextmanager
def watching_pods(kubectl: Kubectl) -> Iterator[PodLog]:
    log = PodLog()
    with watching(kubectl, "pods", log.take):
        yield log
