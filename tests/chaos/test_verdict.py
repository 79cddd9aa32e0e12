"""Nothing that is wrong passes for right."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.chaos.verdict import Deserved, Evidence, Overlap, Sight, judge, sight_of

RUNS = Sight(phase="Running", succeeded="Unknown", reason="", started=1, step=10, result="")
DONE = Sight(phase="Succeeded", succeeded="True", reason="Completed", started=1, step=20, result="s3://b/1")
RIGHT = Deserved("Succeeded", "Completed", adapter="abc")


def evidence(*sights: Sight, **parts: object) -> Evidence:
    whole: dict[str, object] = {"deserved": {"j": RIGHT}, "sights": {"j": sights}, "adapters": {"j": "abc"}, **parts}
    return Evidence(**whole)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "sights",
    [
        (RUNS, DONE),
        (RUNS, replace(RUNS, started=2), replace(RUNS, started=2, step=4), replace(DONE, started=2)),
        (DONE, DONE),
    ],
    ids=["straight", "a new attempt begins lower", "seen again"],
)
def test_what_went_well_is_found_so(sights: tuple[Sight, ...]) -> None:
    verdict = judge(evidence(*sights))

    assert verdict.clean, verdict
    assert verdict.line(3) == "1 jobs, 3 faults: lost 0, doubled 0, orphans 0, wrong 0"


@pytest.mark.parametrize(
    ("sights", "says"),
    [
        ((), "never seen"),
        ((RUNS,), "Running"),
    ],
)
def test_a_job_without_an_end_is_lost(sights: tuple[Sight, ...], says: str) -> None:
    (problem,) = judge(evidence(*sights)).lost

    assert says in problem


@pytest.mark.parametrize(
    ("sights", "says"),
    [
        ((RUNS, replace(DONE, phase="Failed", succeeded="False", reason="Hung")), "ended Failed (Hung), deserved"),
        ((DONE, replace(DONE, succeeded="Unknown"), DONE), "its end changed"),
        ((DONE, replace(DONE, result="s3://b/2")), "its end changed"),
        ((replace(RUNS, started=2), RUNS, DONE), "its attempts went back from 2 to 1"),
        ((RUNS, replace(RUNS, step=4), DONE), "its step went back from 10 to 4 in one attempt"),
        (
            (
                RUNS,
                replace(RUNS, started=2, step=4),
                replace(RUNS, started=2, step=8),
                replace(RUNS, started=2, step=6),
                replace(DONE, started=2),
            ),
            "its step went back from 8 to 6",
        ),
    ],
    ids=["another end", "ran again", "another result", "attempts", "steps", "steps of a later attempt"],
)
def test_what_should_not_have_been_is_wrong(sights: tuple[Sight, ...], says: str) -> None:
    assert any(says in problem for problem in judge(evidence(*sights)).wrong)


def test_an_adapter_that_differs_or_is_not_there_is_wrong() -> None:
    for adapters in ({"j": "other"}, {}):
        assert judge(evidence(DONE, adapters=adapters)).wrong == ["j: its adapter is not that of an undisturbed run"]


def test_what_ran_together_and_what_is_left_is_told() -> None:
    verdict = judge(evidence(DONE, overlaps=[Overlap("j", (1, 2), 3.0)], left=["pod/p"]))

    assert verdict.doubled == ["j: attempts 1, 2 ran together for 3.0 s"]
    assert verdict.orphans == ["pod/p"]
    assert verdict.line(1) == "1 jobs, 1 faults: lost 0, doubled 1, orphans 1, wrong 0"


def test_a_job_is_seen_as_its_status_says() -> None:
    status = {
        "phase": "Running",
        "conditions": [{"type": "Succeeded", "status": "Unknown", "reason": "PodRunning"}],
        "attemptCounters": {"started": 2},
        "progress": {"step": 7},
        "result": {"adapterUri": "s3://b/a"},
    }

    assert sight_of({"status": status}) == Sight("Running", "Unknown", "PodRunning", 2, 7, "s3://b/a")
    assert sight_of({}) == Sight("", "", "", 0, 0, "")
