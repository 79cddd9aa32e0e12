"""What really happens, seen without anything of ours: objects by kubectl's watch, processes in the machine's /proc."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.chaos.verdict import Overlap, Sight, sight_of

Document = dict[str, Any]
PROC: Final = Path("/proc")
SCAN_SECONDS: Final = 0.4
OVERLAP_SECONDS: Final = 1.0
"""Shorter ones are processes that are on their way out: a scan is no instant."""


@dataclass(frozen=True)
class Attempt:
    """One attempt of one TrainingJob."""

    uid: str
    number: int


@dataclass(frozen=True)
class TrainerProcess:
    """A process of a training pod."""

    pid: int
    attempt: Attempt
    name: str
    """Of the TrainingJob."""
    rank: str


class Objects:
    """TrainingJobs of one namespace, each change of them."""

    def __init__(self) -> None:
        self.sights: dict[str, list[Sight]] = defaultdict(list)
        self.uids: dict[str, str] = {}
        self._newest: dict[str, str] = {}

    def take(self, event: Document) -> None:
        document = event["object"]
        if document.get("kind") != "TrainingJob" or event["type"] == "DELETED":
            return
        name, sight = document["metadata"]["name"], sight_of(document)
        self.uids[name] = document["metadata"]["uid"]
        self._newest[name] = (document.get("status") or {}).get("checkpoint", {}).get("uri", "")
        seen = self.sights[name]
        if not seen or seen[-1] != sight:
            seen.append(sight)

    def checkpoints(self) -> list[str]:
        """URIs of the newest checkpoints of those that are not finished."""
        return [uri for name in self.unfinished if (uri := self._newest[name])]

    @property
    def unfinished(self) -> list[str]:
        return [name for name, sights in list(self.sights.items()) if not sights[-1].terminal]


def trainer_processes() -> list[TrainerProcess]:
    """Those that run now on this machine, in whichever pod."""
    return [process for pid in _pids() if (process := _trainer_process(pid))]


def _pids() -> list[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdecimal()]


def _trainer_process(pid: int) -> TrainerProcess | None:
    try:
        stat = (PROC / str(pid) / "stat").read_text()
        environment = (PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return None
    if b"PERDURE_JOB_UID=" not in environment or stat[stat.rindex(")") + 2] in "ZX":
        return None
    values = dict(line.partition("=")[::2] for line in environment.decode(errors="replace").split("\0"))
    if "PERDURE_ATTEMPT" not in values:
        return None
    attempt = Attempt(values["PERDURE_JOB_UID"], int(values["PERDURE_ATTEMPT"]))
    return TrainerProcess(pid, attempt, values.get("PERDURE_JOB_NAME", ""), values.get("PET_NODE_RANK", "0"))


@dataclass
class Processes:
    """Which attempts had processes, and when."""

    ours: Callable[[str], bool]
    """Whether a TrainingJob, by its uid, is one of this run."""
    first_seen: dict[Attempt, float] = field(default_factory=dict)
    """Monotonic seconds."""
    overlaps: list[Overlap] = field(default_factory=list)
    _together: dict[str, tuple[tuple[int, ...], float]] = field(default_factory=dict)

    def scan(self, processes: Sequence[TrainerProcess], now: float) -> None:
        """Takes what runs at one moment."""
        live: dict[str, set[int]] = defaultdict(set)
        names = {}
        for process in processes:
            if not self.ours(process.attempt.uid):
                continue
            self.first_seen.setdefault(process.attempt, now)
            live[process.attempt.uid].add(process.attempt.number)
            names[process.attempt.uid] = process.name
        for uid, numbers in live.items():
            attempts = tuple(sorted(numbers))
            before = self._together.get(uid)
            if len(attempts) > 1 and (before is None or before[0] != attempts):
                self._together[uid] = (attempts, now)
        for uid, (attempts, since) in list(self._together.items()):
            if tuple(sorted(live.get(uid, ()))) != attempts:
                del self._together[uid]
            elif now - since >= OVERLAP_SECONDS:
                known = [each for each in self.overlaps if (each.job, each.attempts) != (names[uid], attempts)]
                self.overlaps = [*known, Overlap(names[uid], attempts, now - since)]


@contextmanager
def scanning(processes: Processes) -> Iterator[None]:
    """Looks at the machine's processes again and again while the context lasts."""
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(SCAN_SECONDS):
            processes.scan(trainer_processes(), time.monotonic())

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
