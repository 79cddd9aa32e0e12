"""The table says what was tried and what came of it."""

from __future__ import annotations

import pytest

from tests.chaos.kinds import KINDS
from tests.chaos.report import exit_status, faults_table, jobs_table, last_lines, recoveries
from tests.chaos.test_history import attempt, sight
from tests.chaos.verdict import Verdict

ADAPTERS = {"trains": "abc", "trains-two": "def"}


def test_each_kind_has_a_line_with_what_was_asked_for_and_what_came_of_it() -> None:
    names = ("instant-1", "instant-2", "instant-7", "trains-3", "trains-two-4", "trains-deleted-5", "trains-deleted-6")
    deserved = {name: KINDS[name.rpartition("-")[0]].deserves(ADAPTERS) for name in names}
    trained = sight(
        attempt(1, "Failed", toStep=60),
        attempt(2, "Failed", fromStep=50, toStep=80),
        attempt(3, "Completed", fromStep=50),
        end="Completed",
    )
    sights = {
        "instant-1": [sight(attempt(1, "Completed"), end="Completed")],
        "instant-2": [sight(attempt(1))],
        "trains-3": [trained],
        "trains-deleted-5": [sight(attempt(1))],
        "trains-deleted-6": [sight(attempt(1))],
    }

    lines = {line.split()[0]: line.split()[1:] for line in jobs_table(
        deserved, sights, {"trains-deleted-5"}, {"trains-3": {1, 2}, "instant-1": {1}})}  # fmt: skip

    assert lines["instant"] == ["3", "1", "2", "1"]
    assert lines["trains"] == ["1", "1", "3", "2", "20,", "30", "of", "2"]
    assert lines["trains-two"] == ["1", "0", "0", "0", "-"]
    assert lines["trains-deleted"] == ["2", "1", "2", "0", "-"]
    assert KINDS.keys() < lines.keys()


def test_each_fault_has_a_line_also_one_that_was_never_made() -> None:
    assert [line.split() for line in faults_table(["a", "b"], {"a": 3})] == [
        ["faults", "times"],
        ["a", "3"],
        ["b", "0"],
    ]


def test_recoveries_are_told_when_there_are_some() -> None:
    assert list(recoveries([1.0])) == []
    (line,) = recoveries([3.0, 1.0, 2.0])
    assert "median 2.0 s" in line
    assert "longest 3.0 s (3 times" in line


CLEAN = Verdict(jobs=2)


@pytest.mark.parametrize(
    ("verdict", "faults", "status", "says"),
    [
        (CLEAN, 3, 0, []),
        (CLEAN, 2, 1, ["  2 faults could be made, at least 3 were expected; is the cluster well?"]),
        (Verdict(jobs=2, lost=["a: never seen"]), 3, 1, ["  a: never seen"]),
        (Verdict(jobs=2, doubled=["a"]), 3, 1, ["  a"]),
        (Verdict(jobs=2, orphans=["a"]), 3, 1, ["  a"]),
        (Verdict(jobs=2, wrong=["a", "b"]), 3, 1, ["  a", "  b"]),
    ],
    ids=["clean", "too few faults", "lost", "doubled", "orphans", "wrong"],
)
def test_only_a_clean_run_with_enough_faults_ends_with_0_and_the_verdict_comes_last(
    verdict: Verdict, faults: int, status: int, says: list[str]
) -> None:
    *problems, last = last_lines("1", verdict, faults, 3)

    assert exit_status(verdict, faults, 3) == status
    assert problems == says
    assert last == f"seed 1: {verdict.line(faults)}"
    assert last.startswith(f"seed 1: 2 jobs, {faults} faults: lost ")
