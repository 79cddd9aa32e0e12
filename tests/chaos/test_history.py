"""What a status and its Events say over time, and what of it cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chaos.history import (
    Deserved,
    Event,
    Sight,
    backwards,
    ends,
    forgotten,
    miscounted,
    sight_of,
    steps_lost,
    unexplained,
    untold,
)


def attempt(number: int, reason: str = "", **more: Any) -> dict[str, Any]:
    ended = {"endTime": "2026-01-01T00:00:00Z", "reason": reason, "message": f"it {reason}"} if reason else {}
    return {"number": number, "job": f"j-{number}", **ended, **more}


def sight(
    *attempts: dict[str, Any], end: str = "", step: int = 0, saved: int = 0, version: int = 1, **more: Any
) -> Sight:
    counters = {"started": max((each["number"] for each in attempts), default=0), **more.pop("counters", {})}
    succeeded = {"type": "Succeeded", "status": {"": "Unknown", "Completed": "True"}.get(end, "False"), "reason": end}
    status = {
        "phase": {"": "Running", "Completed": "Succeeded"}.get(end, "Failed"),
        "conditions": [succeeded],
        "attempts": list(attempts),
        "attemptCounters": counters,
        "progress": {"step": step},
        "checkpoint": {"step": saved},
        **more,
    }
    return Sight(status, version)


FIRST = sight(attempt(1), step=10, saved=8)
SECOND = sight(attempt(1, "Failed"), attempt(2), step=10, saved=8)
DONE = sight(attempt(1, "Failed"), attempt(2, "Completed"), end="Completed", step=20, saved=20)


@pytest.mark.parametrize(
    "sights",
    [
        (FIRST, SECOND, DONE),
        (FIRST, DONE),
        (FIRST, SECOND, sight(attempt(1, "Failed"), attempt(2), step=8, saved=8), DONE),
        (DONE, DONE),
        (
            sight(*(attempt(number, "Failed") for number in range(1, 11))),
            sight(*(attempt(number, "Failed") for number in range(3, 12)), attempt(12)),
        ),
    ],
    ids=["straight", "states are skipped", "a new attempt begins lower", "seen again", "ten attempts are shown"],
)
def test_a_story_that_goes_on_is_none_that_goes_back(sights: tuple[Sight, ...]) -> None:
    assert backwards(sights) == []


@pytest.mark.parametrize(
    ("sights", "says"),
    [
        ((SECOND, FIRST), "attemptCounters.started went back from 2 to 1"),
        (
            (sight(attempt(1), counters={"disrupted": 2}), sight(attempt(1), counters={"disrupted": 1})),
            "attemptCounters.disrupted went back from 2 to 1",
        ),
        ((FIRST, sight(attempt(1), step=4, saved=8)), "its step went back from 10 to 4 in one attempt"),
        (
            (FIRST, *(sight(attempt(1, "Failed"), attempt(2), step=step, saved=8) for step in (4, 8, 6))),
            "its step went back from 8 to 6 in one attempt",
        ),
        ((FIRST, sight(attempt(1), step=10, saved=4)), "its checkpoint went back from step 8 to 4"),
        (
            (SECOND, sight(attempt(1, "Disrupted"), attempt(2), step=10, saved=8)),
            "the end of attempt 1 changed: message it Failed became it Disrupted; reason Failed became Disrupted",
        ),
        ((SECOND, sight(attempt(2), step=10, saved=8)), "attempt 1 is not shown any more"),
        ((DONE, sight(attempt(1, "Failed"), attempt(2), attempt(3))), "its status changed after the end: attempt"),
        ((DONE, Sight({**DONE.status, "phase": "Running"})), "after the end: phase Succeeded became Running"),
        ((DONE, Sight({**DONE.status, "progress": {"step": 19}})), "after the end: progress {'step': 20} became"),
        ((DONE, Sight({**DONE.status, "result": {"adapterUri": "s3://b/2"}})), "after the end: result None became"),
    ],
)
def test_a_status_that_goes_back_or_changes_after_the_end_is_told_with_its_versions(
    sights: tuple[Sight, ...], says: str
) -> None:
    problems = backwards(sights)

    assert any(says in problem for problem in problems), problems
    assert all("resourceVersion" in problem for problem in problems)


def test_after_a_checkpoint_was_spoilt_an_older_one_is_no_way_back() -> None:
    assert backwards((FIRST, sight(attempt(1, "Failed"), attempt(2), step=4, saved=4)), cut=True) == []


def test_a_job_is_seen_as_its_status_says_but_for_when_it_was_told() -> None:
    condition = {"type": "Succeeded", "status": "False", "reason": "Cancelled"}
    document = {
        "metadata": {"resourceVersion": "12"},
        "status": {
            "observedGeneration": 3,
            "phase": "Failed",
            "conditions": [{**condition, "observedGeneration": 3}],
            "attemptCounters": {"started": 2},
            "progress": {"step": 7},
            "checkpoint": {"step": 5, "uri": "s3://b/c"},
            "result": {"adapterUri": "s3://b/a"},
            "workflow": {"id": "w", "asOf": "2026-01-01T00:00:00.000001Z"},
        },
    }

    seen = sight_of(document, at=1.5)

    assert (seen.phase, seen.reason, seen.terminal, seen.started, seen.step) == ("Failed", "Cancelled", True, 2, 7)
    assert (seen.checkpoint_step, seen.checkpoint, seen.result) == (5, "s3://b/c", "s3://b/a")
    assert (seen.version, seen.at) == (12, 1.5)
    assert seen.status["conditions"] == [condition]
    assert "observedGeneration" not in seen.status
    assert seen.status["workflow"] == {"id": "w"}
    nothing = sight_of({})
    assert (nothing.phase, nothing.terminal, nothing.started, nothing.step, nothing.attempts) == ("", False, 0, 0, {})


ALL = [
    attempt(1, "Failed"),
    attempt(2, "JobDeleted"),
    attempt(3, "Suspended"),
    attempt(4, "NoCapacity"),
    attempt(5, "PeerLost"),
    attempt(6, "Completed"),
]
COUNTED = {"failed": 2, "disrupted": 1, "suspended": 1, "unplaced": 1}


@pytest.mark.parametrize(
    ("last", "says"),
    [
        (sight(*ALL, end="Completed", counters=COUNTED), []),
        (sight(*ALL, end="Completed", counters={**COUNTED, "failed": 1}), ["failed is 1, and 2 attempts ended so"]),
        (sight(*ALL, end="Completed", counters={**COUNTED, "disrupted": 2}), ["disrupted is 2, and 1 attempts"]),
        (sight(*ALL[:-1], attempt(6), end="Completed", counters=COUNTED), ["attempt 6 has no end"]),
        # More than are shown at a time, of which the watch has missed some.
        (sight(*ALL[2:], end="Completed", counters={"failed": 9}), []),
    ],
    ids=["as they ended", "one failure too few", "one disruption too many", "open at the end", "not all seen"],
)
def test_counters_are_the_sums_of_how_attempts_ended(last: Sight, says: list[str]) -> None:
    problems = miscounted(last, ends([last]))

    assert len(problems) == len(says)
    assert all(each in problem for each, problem in zip(says, problems, strict=True)), problems


@pytest.mark.parametrize(
    ("reason", "explained", "wrong"),
    [
        ("Completed", (), False),
        ("Suspended", (), False),
        ("Disrupted", (), True),
        ("Failed", (2,), True),
        ("Failed", (1,), False),
    ],
)
def test_an_attempt_ends_as_its_kind_does_or_by_a_fault(
    reason: str, explained: tuple[int, ...], *, wrong: bool
) -> None:
    natural = Deserved("Succeeded", "Completed", natural={"Completed", "Suspended"}).natural

    problems = unexplained({1: attempt(1, reason)}, natural, explained)

    assert problems == ([f"attempt 1 ended as {reason} (it {reason}), and nothing was done to it"] if wrong else [])


TOLD = Event("Warning", "Failed", "attempt 1: it Failed; the next one starts in 1 s")


@pytest.mark.parametrize(
    ("events", "times"),
    [
        ([TOLD], None),
        ([], 0),
        ([TOLD, Event("Warning", "Failed", "attempt 1: it Failed; the next one starts in 2 s")], 2),
        ([Event("Warning", "Failed", "attempt 11: it Failed; the next one starts in 1 s")], 0),
        ([Event("Warning", "Disrupted", TOLD.message)], 0),
        ([Event("Normal", "Failed", TOLD.message)], 0),
        ([TOLD, Event("Warning", "Failed", "attempt 1: node n1 does not answer")], None),
    ],
)
def test_each_retry_is_told_by_one_event(events: list[Event], times: int | None) -> None:
    problems = untold(2, ends([SECOND]), events)

    assert problems == ([] if times is None else [f"that attempt 1 ended as Failed is told by {times} Events"])


def test_no_event_is_asked_for_where_no_attempt_follows_or_it_was_wished_for() -> None:
    assert untold(1, {1: attempt(1, "Failed")}, []) == []
    assert untold(2, {1: attempt(1, "Suspended"), 2: attempt(2, "Completed")}, []) == []


def test_an_attempt_that_begins_before_what_was_saved_has_forgotten_it() -> None:
    saved = {1: attempt(1, "Failed", checkpointStep=50), 2: attempt(2, "Failed")}

    assert forgotten({**saved, 3: attempt(3, "Completed", fromStep=50)}) == []
    assert forgotten({**saved, 3: attempt(3, "Completed")}) == []
    assert forgotten({**saved, 3: attempt(3, "Completed", fromStep=40)}) == [
        "attempt 3 began at step 40, and attempt 1 had saved step 50"
    ]


def test_steps_that_are_done_again_are_those_between_an_end_and_the_next_beginning() -> None:
    ended = {
        1: attempt(1, "Failed", toStep=60),
        2: attempt(2, "Failed", fromStep=50, toStep=70),
        3: attempt(3, "Failed"),  # killed: it left no word
        4: attempt(4, "Suspended", fromStep=70, toStep=90),
        5: attempt(5, "Completed", fromStep=90, toStep=100),
    }

    assert steps_lost(ended) == [10, 0]
