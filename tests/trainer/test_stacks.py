"""The stacks of a trainer that is told to end."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from perdure_trainer.stacks import Stacks

PROGRAM = """
import signal, sys, time
from pathlib import Path
from perdure_trainer.stacks import Stacks
signal.signal(signal.SIGTERM, {handler})
Stacks(Path(sys.argv[1])).install()
def hangs():
    print("ready", flush=True)
    {hangs}
hangs()
"""
DEADLOCK = (
    "import ctypes; c, lock = ctypes.PyDLL(None), ctypes.create_string_buffer(64);"
    " c.pthread_mutex_lock(lock); c.pthread_mutex_lock(lock)"
)
"""Locked twice by one thread, which keeps the interpreter to itself: Python's own handler never runs."""
FUTEX = {"202", "98"}
"""The system call that waits for a lock, on x86-64 and on ARM."""
ENDS = "lambda *_: sys.exit(143)"


def waits_for_a_lock(pid: int) -> bool:
    return Path(f"/proc/{pid}/syscall").read_text().split()[0] in FUTEX


@pytest.mark.parametrize(
    ("hangs", "code"),
    [
        ("time.sleep(60)", 143),
        (DEADLOCK, -signal.SIGKILL),
    ],
    ids=["in Python", "in C"],
)
def test_a_program_that_is_told_to_end_says_where_it_was(tmp_path: Path, hangs: str, code: int) -> None:
    log = tmp_path / "log"
    log.touch()
    program = PROGRAM.format(handler=ENDS, hangs=hangs)
    with subprocess.Popen([sys.executable, "-c", program, log], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        if code < 0:
            while not waits_for_a_lock(process.pid):
                assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        while "in <module>" not in log.read_text():  # the outermost frame is written last
            assert process.poll() is None or log.read_text()
        if code < 0:
            process.kill()
    assert process.returncode == code
    assert "in hangs" in (Stacks(log).told() or "")


def test_what_never_was_told_to_end_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / "log").touch()

    assert Stacks(tmp_path / "log").told() is None
    assert Stacks(tmp_path / "none").told() is None
