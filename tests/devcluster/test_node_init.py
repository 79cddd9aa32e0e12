"""A node's first process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from perdure_devcluster import processes
from perdure_devcluster.paths import SOURCE
from perdure_devcluster.waiting import wait_for


@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces can only be made by root")
def test_a_node_goes_off_when_the_machine_is_shut_down(tmp_path: Path) -> None:
    """A first process ignores SIGTERM unless it asks for it; a shutdown then waits for long."""
    spec = {"daemons": [], "stopped": str(tmp_path), "logs": str(tmp_path), "environment": {}}
    script = f"from perdure_devcluster.node_init import Supervisor; Supervisor({spec!r}).run()"
    command = ["unshare", "--pid", "--fork", "--kill-child=SIGKILL", sys.executable, "-c", script]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(SOURCE)}) as launcher:
        try:
            children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children")
            pid = int(wait_for(lambda: children.read_text().split(), what="the first process", timeout_seconds=60)[0])
            init = processes.identify(pid)
            assert init is not None
            # Again until it is heard: what comes before the process listens is lost.
            wait_for(
                lambda: not processes.send(init, signal.SIGTERM), what="the first process to end", timeout_seconds=20
            )
        finally:
            launcher.kill()
