"""Which trainers really run, seen in the machine's /proc without anything of ours."""

from __future__ import annotations

import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.chaos.causes import Overlap

PROC: Final = Path("/proc")
SCAN_SECONDS: Final = 0.4
OVERLAP_SECONDS: Final = 1.0
"""Shorter ones are processes that are on their way out: a scan is no instant."""
_NODE: Final = re.compile(rb":/perdure-devcluster/([^/\n]+)")


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
    node: str = ""
    """"": unknown."""


def trainer_processes() -> list[TrainerProcess]:
    """Those that run now on this machine, in whichever pod."""
    return [process for pid in _pids() if (process := _trainer_process(PROC / str(pid), pid))]


def _pids() -> list[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdecimal()]


def _trainer_process(folder: Path, pid: int) -> TrainerProcess | None:
    """What runs as one process; None where that is no trainer, or none any more.

    A program may call itself anything and set anything as its environment: no bytes of it are an error.
    """
    try:
        environment = (folder / "environ").read_bytes()
        if b"PERDURE_JOB_UID=" not in environment:
            return None
        stat = (folder / "stat").read_bytes()
        groups = (folder / "cgroup").read_bytes()
    except OSError:
        return None
    state = stat[stat.rfind(b")") + 2 :][:1]
    values = dict(line.partition("=")[::2] for line in environment.decode(errors="replace").split("\0"))
    number = values.get("PERDURE_ATTEMPT", "")
    if state in {b"", b"Z", b"X"} or not (number.isascii() and number.isdecimal()):
        return None
    node = _NODE.search(groups)
    return TrainerProcess(
        pid,
        Attempt(values.get("PERDURE_JOB_UID", ""), int(number)),
        values.get("PERDURE_JOB_NAME", ""),
        values.get("PET_NODE_RANK", "0"),
        node[1].decode(errors="replace") if node else "",
    )


@dataclass
class Processes:
    """Which attempts had processes, when, and on which nodes. Times are monotonic seconds."""

    ours: Callable[[str], bool]
    """Whether a TrainingJob, by its uid, is one of this run."""
    first_seen: dict[Attempt, float] = field(default_factory=dict)
    nodes: dict[Attempt, set[str]] = field(default_factory=lambda: defaultdict(set))
    overlaps: list[Overlap] = field(default_factory=list)
    scans: int = 0
    longest_gap_seconds: float = 0.0
    """From the beginning of one scan to that of the next."""
    last_error: str = ""
    _last_begun: float | None = None
    _together: dict[str, tuple[tuple[int, ...], float]] = field(default_factory=dict)

    def looked_until(self, now: float) -> None:
        """Nobody has looked since the last scan."""
        if self._last_begun is not None:
            self.longest_gap_seconds = max(self.longest_gap_seconds, now - self._last_begun)

    def scan(self, processes: Sequence[TrainerProcess], begun: float, ended: float) -> None:
        """Takes what was found to run at some moment between two."""
        self.looked_until(begun)
        self.scans, self._last_begun = self.scans + 1, begun
        live: dict[str, set[int]] = defaultdict(set)
        names = {}
        for process in processes:
            uid = process.attempt.uid
            if not self.ours(uid):
                continue
            self.first_seen.setdefault(process.attempt, ended)
            if process.node:
                self.nodes[process.attempt].add(process.node)
            live[uid].add(process.attempt.number)
            names[uid] = process.name
        for uid, numbers in live.items():
            attempts = tuple(sorted(numbers))
            before = self._together.get(uid)
            if len(attempts) > 1 and (before is None or before[0] != attempts):
                self._together[uid] = (attempts, ended)
        for uid, (attempts, since) in list(self._together.items()):
            if tuple(sorted(live.get(uid, ()))) != attempts:
                del self._together[uid]
            elif begun - since >= OVERLAP_SECONDS:
                self._overlap(names[uid], uid, attempts, since, begun)

    def _overlap(self, name: str, uid: str, attempts: tuple[int, ...], since: float, now: float) -> None:
        nodes = tuple(frozenset(self.nodes[Attempt(uid, number)]) for number in attempts)
        overlap = Overlap(name, attempts, now - since, since, nodes)
        known = [each for each in self.overlaps if (each.job, each.attempts, each.began) != (name, attempts, since)]
        self.overlaps = [*known, overlap]


@contextmanager
def scanning(processes: Processes, look: Callable[[], Sequence[TrainerProcess]] = trainer_processes) -> Iterator[None]:
    """Looks at the machine's processes again and again while the context lasts, whatever goes wrong with one look."""
    stop = threading.Event()
    processes.looked_until(time.monotonic())

    def look_on() -> None:
        while not stop.wait(SCAN_SECONDS):
            begun = time.monotonic()
            try:
                processes.scan(look(), begun, time.monotonic())
            except Exception as error:  # noqa: BLE001 - a witness that dies sees nothing wrong ever after
                processes.last_error = f"{type(error).__name__}: {error}"

    thread = threading.Thread(target=look_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        processes.looked_until(time.monotonic())
        stop.set()
        thread.join(10)
