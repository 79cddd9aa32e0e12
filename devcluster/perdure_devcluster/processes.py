"""Daemons: started, recognised again, and stopped, without ever hitting a stranger.

A process is ours when its pid, its start time and the boot all match what was
written down when we started it, or when its environment carries our marker.
Names are never used: another etcd on this machine is none of our business.
"""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from perdure_devcluster.errors import DevclusterError
from perdure_devcluster.files import rotate, write_atomically

MARKER = "PERDURE_DEVCLUSTER_OWNER"
# Moves itself into control groups before it becomes the real program, so that
# there is no moment in which the program runs outside of them.
_ENTER = 'cd /; for f in $PROCS_FILES; do echo 0 > "$f" || exit 1; done; unset PROCS_FILES; exec "$@"'
PROC = Path("/proc")
# Of the kernel's flags of a process: it is on its way out.
_PF_EXITING = 0x4


@dataclass(frozen=True)
class ProcessIdentity:
    """A pid is reused; a pid with its start time and boot is not."""

    pid: int
    start_ticks: int
    boot_id: str


class Stat(NamedTuple):
    """What we want to know of /proc/PID/stat."""

    # It has ended, or is about to: its memory, files and ports may be there still.
    is_ending: bool
    start_ticks: int


def parse_stat(stat: str) -> Stat:
    """Read the text of /proc/PID/stat.

    The second field is the program's name in parentheses, which may itself
    hold spaces and parentheses: count from the last one.
    """
    fields = stat[stat.rindex(")") + 2 :].split()
    return Stat(fields[0] in "ZX" or bool(int(fields[6]) & _PF_EXITING), int(fields[19]))


def boot_id() -> str:
    """The kernel's name for this boot."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def identify(pid: int) -> ProcessIdentity | None:
    """The identity of a running process; None for one that has ended (zombies too) or is ending."""
    stat = _stat(pid)
    if stat is None or stat.is_ending:
        return None
    return ProcessIdentity(pid, stat.start_ticks, boot_id())


def is_running(identity: ProcessIdentity) -> bool:
    """Whether this very process still runs."""
    return identify(identity.pid) == identity


def send(identity: ProcessIdentity, signal_: signal.Signals) -> bool:
    """Signal exactly this process; False when it has ended."""
    try:
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return False
    try:
        # The descriptor pins the process: what is checked is what is signalled.
        if not is_running(identity):
            return False
        signal.pidfd_send_signal(descriptor, signal_)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def wait_until_gone(identity: ProcessIdentity, timeout_seconds: float) -> bool:
    """True when the process ended in time, with all its threads: its files and ports are free."""
    try:
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return True
    try:
        stat = _stat(identity.pid)
        if stat is None or ProcessIdentity(identity.pid, stat.start_ticks, boot_id()) != identity:
            return True
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(timeout_seconds * 1000))
    finally:
        os.close(descriptor)


def kill(identity: ProcessIdentity) -> bool:
    """``kill -9``, and wait for the end; False when it had ended, or was ending, already."""
    sent = send(identity, signal.SIGKILL)
    if not wait_until_gone(identity, 20):
        message = (
            f"process {identity.pid} did not end 20 s after SIGKILL; it hangs in the kernel"
            " (see /proc/PID/stack), often on a broken disk"
        )
        raise DevclusterError(message)
    return sent


def _stat(pid: int) -> Stat | None:
    try:
        return parse_stat((PROC / str(pid) / "stat").read_text())
    except (OSError, ValueError):
        return None


def processes_marked(marker: str) -> Iterator[ProcessIdentity]:
    """Every process whose environment says that it belongs to us."""
    wanted = f"{MARKER}={marker}".encode()
    for entry in PROC.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if wanted in environment and (identity := identify(int(entry.name))):
            yield identity


@dataclass(frozen=True)
class Record:
    """What is written down about a process that we started."""

    identity: ProcessIdentity
    # A hash of what it was started with: another one now means that it is out of date.
    configuration: str


def parse_record(text: str) -> Record | None:
    """Read a record; None for one that makes no sense (cut off by a power loss)."""
    try:
        document = json.loads(text)
        return Record(ProcessIdentity(**document["identity"]), document["configuration"])
    except (ValueError, TypeError, KeyError):
        return None


@dataclass(frozen=True)
class Daemons:
    """The processes of one cluster, each with a record and a log under its name."""

    records: Path
    logs: Path
    marker: str

    def running(self, name: str) -> ProcessIdentity | None:
        """The running process of that name."""
        record = self._read(name)
        return record.identity if record and is_running(record.identity) else None

    def is_current(self, name: str, configuration: str) -> bool:
        """Whether a process runs with this configuration."""
        record = self._read(name)
        return record is not None and record.configuration == configuration and is_running(record.identity)

    def remember(self, name: str, identity: ProcessIdentity, configuration: str) -> None:
        """Write down a process."""
        write_atomically(self._record(name), json.dumps(asdict(Record(identity, configuration))))

    def spawn(
        self,
        name: str,
        command: Sequence[str | Path],
        environment: Mapping[str, str],
        procs_files: Sequence[Path],
        stdin: int | None = None,
    ) -> int:
        """Start a process of ours in the background; return its pid.

        Its output goes to its log, it joins the control groups of
        ``procs_files``, and reads from the descriptor ``stdin``, or nothing.
        """
        log = self.log(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        rotate(log)
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        given_or_nothing = (
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0) if stdin is None else (os.POSIX_SPAWN_DUP2, stdin, 0)
        )
        # Not subprocess: it wants to outlive its children, ours outlive us.
        return os.posix_spawn(
            "/bin/sh",
            ["sh", "-c", _ENTER, "sh", *(str(word) for word in command)],
            {
                "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "LANG": "C.UTF-8",
                "HOME": str(Path.home()),
                "PROCS_FILES": " ".join(str(file) for file in procs_files),
                **environment,
                MARKER: self.marker,
            },
            file_actions=[
                given_or_nothing,
                (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            # Ctrl-C at the terminal is meant for the command, not the cluster.
            setsid=True,
        )

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        environment: Mapping[str, str],
        procs_files: Sequence[Path],
        configuration: str,
    ) -> None:
        """Start a daemon that does not run."""
        identity = identify(self.spawn(name, command, environment, procs_files))
        if identity is None:
            raise DevclusterError(self._died(name))
        self.remember(name, identity, configuration)

    def check(self, name: str) -> None:
        """Raise, with the end of its log, when a daemon has died."""
        if not self.running(name):
            raise DevclusterError(self._died(name))

    def stop(self, name: str, timeout_seconds: float = 15) -> bool:
        """Ask a daemon to end, and make it end; False when it did not run.

        Afterwards it is gone, also when it was ending already: something killed
        it a moment ago, and it still holds its ports.
        """
        record = self._read(name)
        if record is None:
            return False
        asked = send(record.identity, signal.SIGTERM)
        if not wait_until_gone(record.identity, timeout_seconds):
            kill(record.identity)
        return asked

    def kill(self, name: str) -> bool:
        """``kill -9``, and wait for the end; False when it did not run."""
        record = self._read(name)
        return record is not None and kill(record.identity)

    def log(self, name: str) -> Path:
        """Where a daemon's output goes."""
        return self.logs / f"{name}.log"

    def _read(self, name: str) -> Record | None:
        record = self._record(name)
        return parse_record(record.read_text()) if record.exists() else None

    def _record(self, name: str) -> Path:
        return self.records / f"{name}.json"

    def _died(self, name: str) -> str:
        log = self.log(name)
        last = log.read_text(errors="replace").splitlines()[-12:] if log.exists() else []
        return f"{name} ended soon after it was started; the end of {log}:\n" + "\n".join(last)
