"""What the witness of processes sees is what runs."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.chaos.verdict import Overlap
from tests.chaos.witness import OVERLAP_SECONDS, Attempt, Processes, TrainerProcess, trainer_processes


def process(attempt: int, rank: str = "0", uid: str = "u") -> TrainerProcess:
    return TrainerProcess(1, Attempt(uid, attempt), "job", rank)


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


def test_attempts_that_run_together_for_longer_than_a_moment_are_told_once() -> None:
    seen = Processes(ours=lambda uid: uid == "u")
    both = [process(1), process(2)]
    for moment in (0.0, OVERLAP_SECONDS - 0.1):
        seen.scan(both, moment)
    assert seen.overlaps == []
    for moment in (OVERLAP_SECONDS, OVERLAP_SECONDS + 2):
        seen.scan(both, moment)

    assert seen.overlaps == [Overlap("job", (1, 2), OVERLAP_SECONDS + 2)]
    assert seen.first_seen == {Attempt("u", 1): 0.0, Attempt("u", 2): 0.0}


def test_one_that_goes_as_the_next_comes_is_no_overlap() -> None:
    seen = Processes(ours=lambda _: True)
    for moment, running in enumerate([[process(1)], [process(1), process(2)], [process(2)], [process(1), process(2)]]):
        seen.scan(running, float(moment))

    assert seen.overlaps == []


def test_ranks_of_one_attempt_and_jobs_of_others_are_no_overlap() -> None:
    seen = Processes(ours=lambda uid: uid == "u")
    for moment in (0.0, 100.0):
        seen.scan([process(1), process(1, rank="1"), process(1, uid="other"), process(2, uid="other")], moment)

    assert seen.overlaps == []
    assert set(seen.first_seen) == {Attempt("u", 1)}
