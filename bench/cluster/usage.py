"""CPU time and memory of the processes that a job costs something, from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TICKS: Final = os.sysconf("SC_CLK_TCK")
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
PROC: Final = Path("/proc")


@dataclass(frozen=True)
class Usage:
    """Of a process, or several together."""

    cpu_seconds: float = 0.0
    """User and system time since its start."""
    bytes_: int = 0
    """Resident memory."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.cpu_seconds + other.cpu_seconds, self.bytes_ + other.bytes_)


@dataclass(frozen=True)
class Process:
    """A pid is reused; a pid with its start is not."""

    pid: int
    start_ticks: int


def parse(stat: str) -> tuple[int, Usage]:
    """Start (clock ticks since boot) and usage, from the text of /proc/PID/stat.

    The second field is the program's name in parentheses, which may hold any character: counted is from the last one.
    """
    fields = stat[stat.rindex(")") + 2 :].split()
    return int(fields[19]), Usage((int(fields[11]) + int(fields[12])) / TICKS, int(fields[21]) * PAGE_BYTES)


def process(pid: int, proc: Path = PROC) -> Process | None:
    """The running process of that pid."""
    try:
        return Process(pid, parse((proc / str(pid) / "stat").read_text())[0])
    except (OSError, ValueError):
        return None


def of(processes: Iterable[Process], proc: Path = PROC) -> Usage:
    """Usage of processes together.

    Raises:
        ProcessLookupError: one of them has ended, and its time with it.
    """
    whole = Usage()
    for each in processes:
        try:
            start, usage = parse((proc / str(each.pid) / "stat").read_text())
        except FileNotFoundError as error:
            raise ProcessLookupError(f"process {each.pid} has ended") from error
        if start != each.start_ticks:
            raise ProcessLookupError(f"process {each.pid} is another one now")
        whole += usage
    return whole


def in_pods(uids: Mapping[str, str], proc: Path = PROC) -> dict[str, list[Process]]:
    """The processes of pods, whose control groups bear their uids.

    Args:
        uids: Name for each uid; several uids may have one name.
        proc: Where the kernel tells.

    Returns:
        For each name its processes, `pause` not among them.
    """
    found: dict[str, list[Process]] = {name: [] for name in uids.values()}
    for folder in proc.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            groups = (folder / "cgroup").read_text().replace("_", "-")
            program = (folder / "comm").read_text().strip()
        except OSError:
            continue
        for uid, name in uids.items():
            if f"pod{uid}" in groups and program != "pause" and (there := process(int(folder.name), proc)):
                found[name].append(there)
    return found


def listening_ports(tcp: str) -> list[int]:
    """TCP ports that are listened on, from the text of /proc/PID/net/tcp or tcp6."""
    listening = "0A"
    rows = [line.split() for line in tcp.splitlines()[1:]]
    return sorted({int(row[1].rpartition(":")[2], 16) for row in rows if len(row) > 3 and row[3] == listening})  # noqa: PLR2004
