"""Which process is ours."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from perdure_devcluster import processes
from perdure_devcluster.errors import DevclusterError
from perdure_devcluster.processes import Daemons, ProcessIdentity
from perdure_devcluster.waiting import wait_for


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[Daemons]:
    daemons = Daemons(tmp_path / "run", tmp_path / "logs", marker=str(tmp_path))
    yield daemons
    for record in (tmp_path / "run").glob("*.json"):
        daemons.kill(record.stem)


def start(daemons: Daemons, script: str, configuration: str = "one") -> None:
    daemons.start("it", [sys.executable, "-c", script], {}, [], configuration)


@pytest.mark.parametrize("name", ["python3", "a b", "x) S 1 (y", "((("])
def test_a_programs_name_cannot_confuse_the_reading_of_its_state(name: str) -> None:
    fields = ["S", *(str(number) for number in range(4, 25))]
    fields[6] = "4194304"
    assert processes.parse_stat(f"77 ({name}) {' '.join(fields)}") == (False, 22)


def test_a_running_process_is_recognised(child: subprocess.Popen[bytes]) -> None:
    identity = processes.identify(child.pid)
    assert identity is not None
    assert processes.is_running(identity)


def test_a_zombie_does_not_count_as_running(child: subprocess.Popen[bytes]) -> None:
    identity = processes.identify(child.pid)
    assert identity is not None
    child.kill()
    # The end is seen although nobody has waited for the process yet.
    assert processes.wait_until_gone(identity, 60)
    assert not processes.is_running(identity)


def test_a_process_that_is_ending_does_not_count_as_running_and_is_waited_for(daemons: Daemons, tmp_path: Path) -> None:
    """Its first thread has ended, another one has not: what it had open still is."""
    ready = tmp_path / "ready"
    start(
        daemons,
        "import ctypes, pathlib, threading, time;"
        " threading.Thread(target=time.sleep, args=(1,), daemon=True).start();"
        f" pathlib.Path({str(ready)!r}).touch();"
        # pthread_exit: the others go on.
        " ctypes.CDLL(None).syscall(60, 0)",
    )
    wait_for(ready.exists, what="the daemon to run", timeout_seconds=60)
    wait_for(lambda: not daemons.running("it"), what="its first thread to end", timeout_seconds=60)
    folder = Path("/proc") / str(json.loads((daemons.records / "it.json").read_text())["identity"]["pid"])
    assert list((folder / "task").iterdir())

    assert not daemons.stop("it")

    # Nobody waits for our children here, so of one that is gone a zombie stays.
    assert [task.name for task in (folder / "task").iterdir()] == [folder.name]


@pytest.mark.parametrize("change", [{"start_ticks": 1}, {"boot_id": "another"}], ids=["start time", "boot"])
def test_another_process_with_the_same_pid_gets_no_signal(
    child: subprocess.Popen[bytes], change: dict[str, object]
) -> None:
    identity = processes.identify(child.pid)
    assert identity is not None
    stranger = replace(identity, **change)  # type: ignore[arg-type]
    assert not processes.send(stranger, signal.SIGKILL)
    assert not processes.kill(stranger)
    assert child.poll() is None


def test_a_process_that_has_ended_is_no_error_to_kill() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    identity = ProcessIdentity(process.pid, 1, processes.boot_id())
    process.wait()
    assert not processes.kill(identity)


def test_a_daemon_is_found_again_by_its_record_and_stopped(daemons: Daemons) -> None:
    start(daemons, "import time; time.sleep(60)")
    again = Daemons(daemons.records, daemons.logs, daemons.marker)
    assert again.running("it")
    assert again.stop("it")
    assert not again.running("it")
    assert not again.stop("it")


def test_a_daemon_that_ignores_sigterm_is_killed(daemons: Daemons, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    start(
        daemons,
        "import pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f" pathlib.Path({str(ready)!r}).touch(); time.sleep(60)",
    )
    wait_for(ready.exists, what="the daemon to run", timeout_seconds=60)
    assert daemons.stop("it", timeout_seconds=0.2)
    assert not daemons.running("it")


def test_a_daemon_with_another_configuration_is_not_current(daemons: Daemons) -> None:
    start(daemons, "import time; time.sleep(60)", "one")
    assert daemons.is_current("it", "one")
    assert not daemons.is_current("it", "two")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"identity": {"pid": 1}, "configuration": ""}'])
def test_a_record_that_was_cut_off_means_not_running(daemons: Daemons, text: str) -> None:
    daemons.records.mkdir()
    (daemons.records / "it.json").write_text(text)
    assert daemons.running("it") is None


def test_a_daemon_whose_record_is_lost_is_found_by_its_mark(daemons: Daemons) -> None:
    start(daemons, "import time; time.sleep(60)")
    identity = daemons.running("it")
    # While a process becomes another program, its environment reads as empty.
    wait_for(
        lambda: identity in set(processes.processes_marked(daemons.marker)),
        what="its mark to be seen",
        timeout_seconds=20,
    )
    assert identity not in set(processes.processes_marked(daemons.marker + "-other"))


def test_a_daemon_that_dies_at_once_is_reported_with_the_end_of_its_log(daemons: Daemons) -> None:
    start(daemons, "raise SystemExit('no such flag')")
    if identity := daemons.running("it"):
        processes.wait_until_gone(identity, 60)
    with pytest.raises(DevclusterError, match="no such flag"):
        daemons.check("it")


def test_our_own_process_is_never_among_the_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(processes.MARKER, "self")
    assert os.getpid() not in {identity.pid for identity in processes.processes_marked("self")}
