"""Nothing that is wrong passes for right."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.causes import Overlap, Spell
from tests.chaos.history import Deserved, Event
from tests.chaos.test_history import attempt, sight
from tests.chaos.verdict import BLIND_SECONDS, Evidence, judge

RUNS = sight(attempt(1), step=10)
DONE = sight(attempt(1, "Completed"), end="Completed", step=20)
HUNG = sight(attempt(1, "Hung"), end="Hung", step=10, counters={"failed": 1})
RETRIED = sight(attempt(1, "Failed"), attempt(2, "Completed"), end="Completed", counters={"failed": 1})
RIGHT = Deserved("Succeeded", "Completed", adapter="abc", built_in=True, lasts_seconds=3)
TOLD = {"j": [Event("Warning", "Failed", "attempt 1: it Failed; the next one starts in 1 s")]}


def evidence(*sights: Any, **parts: Any) -> Evidence:
    whole: dict[str, Any] = {
        "asked": 1,
        "deserved": {"j": RIGHT},
        "sights": {"j": sights},
        "adapters": {"j": "abc"},
        "seen": {"j": {1, 2}},
        "scans": 100,
        "longest_gap_seconds": 0.5,
    }
    return Evidence(**(whole | parts))


@pytest.mark.parametrize(
    "seen",
    [
        evidence(RUNS, DONE),
        evidence(RUNS, RETRIED, explained={"j": {1}}, events=TOLD),
        evidence(RUNS, deserved={"j": replace(RIGHT, gone=True)}, gone={"j"}),
        evidence(DONE, overlaps=[Overlap("j", (1, 2), 3.0, 0.0, (frozenset({"n1"}),) * 2)],
                 node_spells=[Spell("n1", 0, 1)]),
        evidence(DONE, seen={}, longest_gap_seconds=RIGHT.lasts_seconds),
    ],
    ids=["straight", "killed once", "deleted as asked", "beside a lost node", "too short to be seen for certain"],
)  # fmt: skip
def test_what_went_well_is_found_so(seen: Evidence) -> None:
    verdict = judge(seen)

    assert verdict.clean, verdict
    assert verdict.line(3) == "1 jobs, 3 faults: lost 0, doubled 0, orphans 0, wrong 0"


@pytest.mark.parametrize(
    ("seen", "says"),
    [
        (evidence(), "j: never seen"),
        (evidence(RUNS), "j: Running"),
        (evidence(RUNS, deserved={"j": replace(RIGHT, gone=True)}), "j: it was to be deleted and is still there"),
        (evidence(deserved={}, sights={}, asked=0), "0 of 0 jobs were asked for"),
        (evidence(DONE, asked=2), "1 of 2 jobs were asked for"),
    ],
)
def test_a_job_without_an_end_or_that_never_was_is_lost(seen: Evidence, says: str) -> None:
    verdict = judge(seen)

    (problem,) = verdict.lost
    assert says in problem
    assert not verdict.clean


@pytest.mark.parametrize(
    ("seen", "says"),
    [
        (evidence(RUNS, HUNG), "ended Failed (Hung), deserved Succeeded (Completed)"),
        (evidence(DONE, adapters={"j": "other"}), "its adapter is not that of an undisturbed run"),
        (evidence(DONE, adapters={}), "its adapter is not that of an undisturbed run"),
        (evidence(DONE, RUNS, DONE), "its status changed after the end"),
        (evidence(RETRIED, events=TOLD), "attempt 1 ended as Failed (it Failed), and nothing was done to it"),
        (evidence(RETRIED, explained={"j": {1}}), "that attempt 1 ended as Failed is told by 0 Events"),
        (
            evidence(replace(RETRIED, status={**RETRIED.status, "attemptCounters": {"started": 2}})),
            "attemptCounters.failed is 0, and 1 attempts ended so",
        ),
        (
            evidence(sight(attempt(1, "Failed", checkpointStep=9), attempt(2, "Completed", fromStep=8))),
            "attempt 2 began at step 8, and attempt 1 had saved step 9",
        ),
        (evidence(DONE, seen={"j": {2}}), "attempt 1 did its work, and no process of it was seen"),
        (evidence(DONE, scans=0), "nobody looked at the processes"),
        (
            evidence(DONE, longest_gap_seconds=BLIND_SECONDS + 1),
            f"nobody looked at the processes for {BLIND_SECONDS + 1:.0f} s",
        ),
    ],
)
def test_what_should_not_have_been_is_wrong(seen: Evidence, says: str) -> None:
    verdict = judge(seen)

    assert any(says in problem for problem in verdict.wrong), verdict
    assert not verdict.clean


def test_a_checkpoint_that_was_spoilt_may_be_forgotten() -> None:
    sights = sight(attempt(1, "Failed", checkpointStep=9), attempt(2, "Completed", fromStep=8))

    assert not any("had saved" in problem for problem in judge(evidence(sights, cut={"j"})).wrong)


def test_what_ran_together_wrote_late_or_is_left_is_told() -> None:
    overlap = Overlap("j", (1, 2), 3.0, 100.0, (frozenset({"n1"}), frozenset({"n1"})))
    late = ["j: attempt 1 wrote result.json 9 s after attempt 2 had committed"]
    verdict = judge(evidence(DONE, overlaps=[overlap], late=late, left=["pod/p"]))

    assert verdict.doubled == ["j: attempts 1, 2 ran together for 3.0 s", *late]
    assert verdict.orphans == ["pod/p"]
    assert verdict.line(1) == "1 jobs, 1 faults: lost 0, doubled 2, orphans 1, wrong 0"
    assert not verdict.clean
