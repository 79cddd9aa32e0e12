"""What is started is ended, and what it used is counted."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cluster.errors import BenchError
from bench.cluster.usage import TICKS
from bench.temporal import processes, servers

SLEEPS = ["sleep", "infinity"]


def entry(
    proc: Path, pid: int, *, ticks: tuple[int, int, int, int], memory: tuple[int, int, int], children: str
) -> None:
    """A process as the kernel tells of it; memory is its own, of files, and shared, in kB."""
    folder = proc / str(pid)
    (folder / f"task/{pid}").mkdir(parents=True)
    before, after = " ".join(["0"] * 11), " ".join(["0"] * 30)
    (folder / "stat").write_text(f"{pid} (a (b) c) {before} {' '.join(map(str, ticks))} {after}")
    own, file, shared = memory
    (folder / "status").write_text(
        f"Name:\ta\nVmRSS:\t9 kB\nRssAnon:\t{own} kB\nRssFile:\t{file} kB\nRssShmem:\t{shared} kB\n"
    )
    (folder / f"task/{pid}/children").write_text(children)


def test_a_database_is_all_its_processes_those_that_have_ended_too(tmp_path: Path) -> None:
    entry(tmp_path, 1, ticks=(100, 50, 30, 20), memory=(10, 5, 200), children="2 3 ")
    entry(tmp_path, 2, ticks=(200, 0, 0, 0), memory=(20, 5, 100), children="")
    # 3 has ended since it was listed.

    used = processes.used(1, tmp_path)

    assert used.cpu_seconds == pytest.approx(400 / TICKS)
    assert used.bytes_ == (10 + 20 + 205) << 10, "what they share is there once"


def test_a_process_that_has_ended_is_told(tmp_path: Path) -> None:
    with pytest.raises(ProcessLookupError, match="process 1 has ended"):
        processes.used(1, tmp_path)


async def test_a_program_runs_until_the_end_of_the_block(tmp_path: Path) -> None:
    async with processes.running(SLEEPS, tmp_path / "log") as process:
        assert processes.used(process.pid).bytes_ > 0

    assert process.returncode == -signal.SIGTERM


async def test_a_program_ends_with_a_block_that_is_interrupted(tmp_path: Path) -> None:
    started: asyncio.Future[asyncio.subprocess.Process] = asyncio.get_running_loop().create_future()

    async def block() -> None:
        async with processes.running(SLEEPS, tmp_path / "log") as process:
            started.set_result(process)
            await asyncio.Future()

    task = asyncio.create_task(block())
    process = await started
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert process.returncode is not None


async def test_one_that_will_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "END_SECONDS", 0.05)
    deaf = ["sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.01; done"]
    async with processes.running(deaf, tmp_path / "log") as process:
        while not (tmp_path / "log").read_text():  # noqa: ASYNC110 - a file tells nobody
            await asyncio.sleep(0.01)

    assert process.returncode == -signal.SIGKILL


def test_a_measurement_that_is_killed_takes_its_programs_with_it(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom bench.temporal import processes\n"
        "async def main():\n"
        f"    async with processes.running(['sleep', 'infinity'], Path({str(tmp_path / 'log')!r})) as process:\n"
        "        print(process.pid, flush=True)\n        await asyncio.Future()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as measurement:
        assert measurement.stdout
        pid = int(measurement.stdout.readline())
        # As soon as it is `sleep`, what ends with its parent is settled.
        while Path(f"/proc/{pid}/comm").read_text() != "sleep\n":
            pass
        handle = os.pidfd_open(pid)
        measurement.kill()

    waits = subprocess.run(["tail", "--pid", str(pid), "-f", "/dev/null"], timeout=20, check=False)
    os.close(handle)
    assert waits.returncode == 0


async def test_a_program_that_fails_says_what_it_said_last(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"sh ended with status 3, expected it to do its work; it said: no room"):
        await processes.done(["sh", "-c", "echo no room; exit 3"], tmp_path / "log")


def test_ports_are_others_each_time() -> None:
    ports = processes.unused_ports(8)

    assert len(set(ports)) == 8
    assert max(ports) < 1 << 15, "Temporal's schema for PostgreSQL has no room for others"


def test_too_few_ports_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        monkeypatch.setattr(processes, "_PORTS", range(port, port + 1))

        with pytest.raises(BenchError, match="found 0 unused ports"):
            processes.unused_ports(1)


def test_a_folder_goes_and_so_does_that_of_a_killed_measurement(tmp_path: Path) -> None:
    left = tmp_path / "perdure-bench-temporal-left"
    left.mkdir()
    (left / "temporal.db").write_bytes(b"old")
    with servers.folder(tmp_path) as one:
        assert not left.exists()
        with servers.folder(tmp_path) as other:
            assert one.exists(), "another measurement's is not left over"
            assert other != one

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="name another with --folder"), servers.folder(tmp_path / "none"):
        pass
