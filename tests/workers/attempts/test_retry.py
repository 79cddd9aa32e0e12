from __future__ import annotations

import pytest

from perdure_api.conditions import Reason
from perdure_api.spec import RetrySpec
from perdure_api.status import AttemptCounters
from perdure_workers.attempts.outcome import Outcome
from perdure_workers.attempts.retry import (
    MAX_DISRUPTIONS,
    Again,
    Decision,
    GiveUp,
    GoOn,
    backoff_seconds,
    count,
    decide,
)

RETRY = RetrySpec(max_attempts=3, initial_interval_seconds=10, backoff_coefficient=2, max_interval_seconds=25)


def after(reason: Reason, **counters: int) -> Decision:
    return decide(Outcome(reason=reason, message="why"), AttemptCounters(**counters), RETRY)


def test_a_completed_attempt_goes_on_to_the_next_stage() -> None:
    assert after(Reason.COMPLETED) == GoOn()


@pytest.mark.parametrize(("failures", "seconds"), [(1, 10), (2, 20), (3, 25), (5000, 25)])
def test_waits_grow_and_stop_growing(failures: int, seconds: float) -> None:
    assert backoff_seconds(failures, RETRY) == seconds


@pytest.mark.parametrize(
    ("retry", "seconds"),
    [
        (RetrySpec(initial_interval_seconds=0), 0),
        (RetrySpec(initial_interval_seconds=0, backoff_coefficient=100), 0),
        (RetrySpec(initial_interval_seconds=86_400, max_interval_seconds=0), 0),
        (RetrySpec(initial_interval_seconds=86_400, max_interval_seconds=60), 60),
        (RetrySpec(initial_interval_seconds=10, backoff_coefficient=1), 10),
        (RetrySpec(initial_interval_seconds=86_400, backoff_coefficient=100, max_interval_seconds=604_800), 604_800),
    ],
    ids=["none", "none at all", "the longest is none", "the longest is shorter", "always the same", "a week"],
)
def test_odd_waits_are_what_they_say(retry: RetrySpec, seconds: float) -> None:
    assert backoff_seconds(1000, retry) == seconds


@pytest.mark.parametrize(
    "reason", [Reason.FAILED, Reason.OUT_OF_MEMORY, Reason.OUT_OF_DISK, Reason.PEER_LOST, Reason.HUNG]
)
def test_failures_are_tried_again_until_max_attempts_have_failed(reason: Reason) -> None:
    assert after(reason, started=2, failed=2) == Again(20)
    assert after(reason, started=3, failed=3) == GiveUp(
        Reason.MAX_ATTEMPTS_REACHED, "all 3 attempts failed; the last one: why"
    )


def test_an_only_attempt_is_called_so() -> None:
    failed = Outcome(reason=Reason.FAILED, message="why")

    assert decide(failed, AttemptCounters(failed=1), RetrySpec(max_attempts=1)) == GiveUp(
        Reason.MAX_ATTEMPTS_REACHED, "its only attempt failed; the last one: why"
    )


@pytest.mark.parametrize("reason", [Reason.DISRUPTED, Reason.JOB_DELETED, Reason.FENCED])
def test_a_lost_attempt_does_not_use_up_the_retry_budget(reason: Reason) -> None:
    counters = count(AttemptCounters(started=9, failed=2, disrupted=6), Outcome(reason=reason, message="why"))

    assert (counters.failed, counters.disrupted) == (2, 7)
    assert isinstance(decide(Outcome(reason=reason, message="why"), counters, RETRY), Again)


@pytest.mark.parametrize("reason", [Reason.FAILED, Reason.OUT_OF_MEMORY, Reason.PERMANENT_ERROR])
def test_any_other_end_than_a_good_one_counts_as_failed(reason: Reason) -> None:
    counters = AttemptCounters(started=9, failed=2, disrupted=6)

    assert count(counters, Outcome(reason=reason, message="")) == AttemptCounters(started=9, failed=3, disrupted=6)
    assert count(counters, Outcome(reason=Reason.COMPLETED, message="")) == counters


@pytest.mark.parametrize(
    ("reason", "counter"),
    [
        (Reason.FAILED, "failed"),
        (Reason.HUNG, "failed"),
        (Reason.OUT_OF_DISK, "failed"),
        (Reason.PEER_LOST, "failed"),
        (Reason.DIVERGED, "failed"),
        (Reason.JOB_DELETED, "disrupted"),
        (Reason.FENCED, "disrupted"),
        (Reason.SUSPENDED, "suspended"),
        (Reason.NO_CAPACITY, "unplaced"),
        (Reason.IMAGE_PULL_FAILED, "unplaced"),
        (Reason.REGROWN, None),
    ],
)
def test_each_end_is_counted_in_one_place_and_what_was_asked_for_in_none(reason: Reason, counter: str | None) -> None:
    before = AttemptCounters(started=9, failed=1, disrupted=2, suspended=3, unplaced=4)
    expected = before.model_copy(update={counter: getattr(before, counter) + 1} if counter else {})

    assert count(before, Outcome(reason=reason, message="")) == expected


@pytest.mark.parametrize("reason", [Reason.SUSPENDED, Reason.REGROWN])
def test_what_was_told_to_end_goes_on_without_a_pause(reason: Reason) -> None:
    assert after(reason, started=1000, suspended=999) == Again(0)


@pytest.mark.parametrize(("disrupted", "seconds"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (999, 60)])
def test_the_pause_after_a_disruption_begins_short_and_stops_growing(disrupted: int, seconds: float) -> None:
    assert after(Reason.DISRUPTED, disrupted=disrupted) == Again(seconds)


def test_disruptions_have_a_bound_of_their_own() -> None:
    assert isinstance(after(Reason.DISRUPTED, disrupted=MAX_DISRUPTIONS - 1), Again)
    assert after(Reason.DISRUPTED, disrupted=MAX_DISRUPTIONS) == GiveUp(
        Reason.DISRUPTED, "taken away 1000 times; the last time: why"
    )


@pytest.mark.parametrize(
    "reason",
    [
        Reason.PERMANENT_ERROR,
        Reason.DIVERGED,
        Reason.CANNOT_START,
        Reason.NO_CAPACITY,
        Reason.IMAGE_PULL_FAILED,
        Reason.JOB_REFUSED,
        Reason.DEADLINE_EXCEEDED,
    ],
)
def test_what_another_attempt_cannot_change_fails_at_once(reason: Reason) -> None:
    assert after(reason, started=1, failed=1) == GiveUp(reason, "why")
