"""What the witness of processes sees is what runs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.chaos.causes import Overlap
from tests.chaos.witness import (
    OVERLAP_SECONDS,
    Attempt,
    Processes,
    TrainerProcess,
    _trainer_process,
    scanning,
    trainer_processes,
)


def process(attempt: int, rank: str = "0", uid: str = "u", node: str = "n1") -> TrainerProcess:
    return TrainerProcess(1, Attempt(uid, attempt), "job", rank, node)


def scan(seen: Processes, running: list[TrainerProcess], moment: float) -> None:
    seen.scan(running, moment, moment)


def test_a_trainer_is_known_by_its_environment_and_only_while_it_runs() -> None:
    told = {"PERDURE_JOB_UID": f"probe-{os.getpid()}", "PERDURE_ATTEMPT": "3", "PERDURE_JOB_NAME": "probe"}
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env=told) as running:
        found = [each for each in trainer_processes() if each.pid == running.pid]
        running.kill()
        # Not waited for yet: what is left of it is no process that does anything.
        os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOWAIT)
        after = [each for each in trainer_processes() if each.pid == running.pid]

    assert found == [TrainerProcess(running.pid, Attempt(told["PERDURE_JOB_UID"], 3), "probe", "0")]
    assert after == []


ENVIRONMENT = b"PERDURE_JOB_UID=u\0PERDURE_ATTEMPT=2\0PERDURE_JOB_NAME=j\0PET_NODE_RANK=1\0"
STAT = b"7 (python3) S 1 7"
GROUPS = b"4:memory:/perdure-devcluster/n2/kubepods/besteffort/pod1\n0::/\n"
FOUND = TrainerProcess(7, Attempt("u", 2), "j", "1", "n2")


@pytest.mark.parametrize(
    ("environment", "stat", "groups", "expected"),
    [
        (ENVIRONMENT, STAT, GROUPS, FOUND),
        (ENVIRONMENT, STAT, b"0::/\n", TrainerProcess(7, Attempt("u", 2), "j", "1", "")),
        (ENVIRONMENT, b"7 (\xff) odd) R 1", GROUPS, FOUND),
        (ENVIRONMENT + b"ODD=\xfe\0", STAT, GROUPS, FOUND),
        (ENVIRONMENT, b"7 (python3) Z 1 7", GROUPS, None),
        (ENVIRONMENT, b"", GROUPS, None),
        (ENVIRONMENT.replace(b"ATTEMPT=2", b"ATTEMPT=two"), STAT, GROUPS, None),
        (ENVIRONMENT.replace(b"ATTEMPT=2", "ATTEMPT=²".encode()), STAT, GROUPS, None),
        (b"HOME=/root\0", STAT, GROUPS, None),
    ],
    ids=["plain", "no node", "odd name", "odd environment", "ended", "cut off", "no number", "odd digit", "others"],
)
def test_no_process_can_blind_the_witness(
    tmp_path: Path, environment: bytes, stat: bytes, groups: bytes, expected: TrainerProcess | None
) -> None:
    for name, content in {"environ": environment, "stat": stat, "cgroup": groups}.items():
        (tmp_path / name).write_bytes(content)

    assert _trainer_process(tmp_path, 7) == expected


def test_a_look_that_fails_is_told_and_the_next_one_is_made() -> None:
    looked = threading.Event()
    looks = 0

    def look() -> list[TrainerProcess]:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise ValueError("odd")
        looked.set()
        return [process(1)]

    seen = Processes(ours=lambda _: True)
    with scanning(seen, look):
        assert looked.wait(30)
        deadline = time.monotonic() + 30
        while not seen.scans and time.monotonic() < deadline:
            looked.wait(0.01)

    assert seen.last_error == "ValueError: odd"
    assert seen.scans >= 1
    assert Attempt("u", 1) in seen.first_seen


def test_the_longest_time_that_nobody_looked_counts_to_the_end() -> None:
    seen = Processes(ours=lambda _: True)
    for moment in (0.0, 1.0, 4.0, 5.0):
        scan(seen, [], moment)
    assert (seen.scans, seen.longest_gap_seconds) == (4, 3.0)

    seen.looked_until(9.0)
    assert seen.longest_gap_seconds == 4.0


def test_attempts_that_run_together_for_longer_than_a_moment_are_told_once_with_their_nodes() -> None:
    seen = Processes(ours=lambda uid: uid == "u")
    both = [process(1), process(2, node="n2")]
    for moment in (0.0, OVERLAP_SECONDS - 0.1):
        scan(seen, both, moment)
    assert seen.overlaps == []
    for moment in (OVERLAP_SECONDS, OVERLAP_SECONDS + 2):
        scan(seen, both, moment)

    nodes = (frozenset({"n1"}), frozenset({"n2"}))
    assert seen.overlaps == [Overlap("job", (1, 2), OVERLAP_SECONDS + 2, 0.0, nodes)]
    assert seen.first_seen == {Attempt("u", 1): 0.0, Attempt("u", 2): 0.0}


def test_a_scan_that_takes_long_makes_no_overlap_of_one_that_goes_as_the_next_comes() -> None:
    seen = Processes(ours=lambda _: True)
    seen.scan([process(1), process(2)], 0.0, 2.0)
    seen.scan([process(1), process(2)], 2.4, 5.0)
    assert seen.overlaps == []

    seen.scan([process(1), process(2)], 5.4, 6.0)
    assert [overlap.attempts for overlap in seen.overlaps] == [(1, 2)]


def test_one_that_goes_as_the_next_comes_is_no_overlap() -> None:
    seen = Processes(ours=lambda _: True)
    for moment, running in enumerate([[process(1)], [process(1), process(2)], [process(2)], [process(1), process(2)]]):
        scan(seen, running, float(moment))

    assert seen.overlaps == []


def test_ranks_of_one_attempt_and_jobs_of_others_are_no_overlap() -> None:
    seen = Processes(ours=lambda uid: uid == "u")
    for moment in (0.0, 100.0):
        scan(seen, [process(1), process(1, rank="1"), process(1, uid="other"), process(2, uid="other")], moment)

    assert seen.overlaps == []
    assert set(seen.first_seen) == {Attempt("u", 1)}
