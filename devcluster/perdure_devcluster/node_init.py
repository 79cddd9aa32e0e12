"""The first process inside a node: mounts, addresses, daemons, and their restarts.

Runs as PID 1 of the node's own namespaces, so that its death is the node's. It
does what its spec says (``node_config.init_spec``) and decides nothing itself.

A daemon that dies is started again after a second, as systemd would, unless a
file with its name is in the folder ``stopped``; SIGHUP makes it look there.
SIGTERM, which a machine that shuts down sends to everybody, switches the node off.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perdure_devcluster import cgroups
from perdure_devcluster.waiting import wait_for

_RESTART_SECONDS = 1.0
_TERM_SECONDS = 10.0


def main() -> None:
    """Run the node whose spec is the file named by the first argument."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    # The machine says `go` when our end of the cable is here; if it dies
    # instead, there is nothing to run.
    if sys.stdin.readline() != "go\n":
        sys.exit("the command that started this node ended before it was complete")
    # The addresses follow from the plan and never leave the node's namespace.
    socket.sethostname(spec["name"])
    _mount(spec["binds"])
    _connect(spec["address"], spec["routes"])
    print("node ready for its daemons", flush=True)
    Supervisor(spec).run()


def _mount(binds: dict[str, str]) -> None:
    # Asked while the machine's own are still to be seen.
    control_groups = cgroups.of_this_machine().mounts()
    # sysfs shows the network namespace that it was mounted in.
    _run("mount", "-t", "sysfs", "sysfs", "/sys")
    for mount in control_groups:
        mount.target.mkdir(exist_ok=True)
        _run("mount", "-t", mount.type, "-o", mount.options, mount.type, str(mount.target))
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    for target, source in binds.items():
        _run("mount", "--bind", source, target)
    # kubelet's mounts have to reach the containers (mount propagation).
    _run("mount", "--make-rshared", "/")


def _connect(address: str, routes: list[dict[str, str]]) -> None:
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "address", "add", address, "dev", "eth0")
    _run("ip", "link", "set", "eth0", "up")
    # No default route: nothing in a node can reach beyond the cluster.
    for route in routes:
        _run("ip", "route", "add", route["to"], "via", route["via"])
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


@dataclass
class Daemon:
    """One daemon and what is known of its process."""

    name: str
    command: list[str]
    socket: str
    pid: int = 0
    start_after: float = 0.0
    kill_after: float = field(default=float("inf"))


class Supervisor:
    """Keeps the daemons in the state that the folder ``stopped`` asks for."""

    def __init__(self, spec: dict[str, Any]) -> None:
        """Read the spec; start nothing yet."""
        self._daemons = [Daemon(**entry) for entry in spec["daemons"]]
        self._stopped = Path(spec["stopped"])
        self._logs = Path(spec["logs"])
        self._environment = {**os.environ, **spec["environment"]}

    def run(self) -> None:
        """Return when the node is to be switched off."""
        signals = {signal.SIGCHLD, signal.SIGHUP, signal.SIGTERM}
        # Blocked, then waited for: none is lost between two looks.
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        while True:
            self._reap()
            pause = min((self._settle(daemon) for daemon in self._daemons), default=60.0)
            received = signal.sigtimedwait(signals, max(pause, 0.01))
            # PID 1 ignores it otherwise, and the shutdown would wait 90 s for us.
            if received and received.si_signo == signal.SIGTERM:
                return

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            # Anything else was a pod's orphan, which PID 1 has to bury.
            for daemon in self._daemons:
                if daemon.pid == pid:
                    code = os.waitstatus_to_exitcode(status)
                    print(f"{daemon.name} ended with {code}", flush=True)
                    daemon.pid = 0
                    daemon.kill_after = float("inf")
                    daemon.start_after = time.monotonic() + _RESTART_SECONDS

    def _settle(self, daemon: Daemon) -> float:
        """Bring one daemon a step nearer to what is wanted; return seconds to the next look."""
        now = time.monotonic()
        if (self._stopped / daemon.name).exists():
            daemon.start_after = 0.0
            return self._settle_stopped(daemon, now)
        if daemon.pid:
            return 60.0
        if now < daemon.start_after:
            return daemon.start_after - now
        self._start(daemon)
        return 60.0

    def _settle_stopped(self, daemon: Daemon, now: float) -> float:
        if not daemon.pid:
            return 60.0
        if daemon.kill_after == float("inf"):
            os.kill(daemon.pid, signal.SIGTERM)
            daemon.kill_after = now + _TERM_SECONDS
        elif now >= daemon.kill_after:
            os.kill(daemon.pid, signal.SIGKILL)
            return 60.0
        return daemon.kill_after - now

    def _start(self, daemon: Daemon) -> None:
        log = str(self._logs / f"{daemon.name}.log")
        daemon.pid = os.posix_spawn(
            daemon.command[0],
            daemon.command,
            self._environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            # Not our own mask, or it could never be told to end.
            setsigmask=[],
        )
        print(f"{daemon.name} started", flush=True)
        if daemon.socket:
            wait_for(
                lambda: _answers(daemon.socket),
                what=f"{daemon.name} to answer at {daemon.socket}",
                timeout_seconds=60,
            )


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(path)
        except OSError:
            return False
    return True


if __name__ == "__main__":
    main()
