"""Whatever happens to a job, in whatever order, its status makes sense and never goes back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from perdure_api.conditions import ConditionStatus, ConditionType, Reason, phase_of
from perdure_api.status import TrainingJobStatus
from perdure_api.workflow import JobRef
from perdure_workers.attempts.outcome import Outcome
from perdure_workers.messages import AttemptEnd, Collected
from perdure_workers.story import Story

BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
Step = Callable[[Story, datetime], object]


def suspended(story: Story, now: datetime) -> None:
    story.suspended(now)
    story.resumed(now)


def attempt(reason: Reason, then: Step) -> Step:
    """A whole attempt, and what is said behind it."""

    def step(story: Story, now: datetime) -> None:
        story.attempt_started(now)
        story.start_refused("exceeded quota", now)
        if reason is Reason.SUSPENDED:
            story.suspending(now)
        story.attempt_ended(AttemptEnd(outcome=Outcome(reason=reason, message="why")), now)
        then(story, now)

    return step


STEPS: dict[str, Step] = {
    "checking": lambda story, now: story.checking(now),
    "store away": lambda story, now: story.checking(now, "503"),
    "checked": lambda story, now: story.checked(Reason.DATASET_CHECKED, "read", now),
    "heard": lambda story, _: story.heard((story.status.observed_generation or 0) + 1),
    "suspended": suspended,
    "failed": attempt(Reason.FAILED, lambda story, now: story.retrying(10, now)),
    "disrupted": attempt(Reason.DISRUPTED, lambda story, now: story.retrying(1, now)),
    "unplaced": attempt(Reason.NO_CAPACITY, lambda story, now: story.falling_back("elsewhere", now)),
    "suspended attempt": attempt(Reason.SUSPENDED, suspended),
}
ENDS: dict[str, Step] = {
    "succeeded": attempt(Reason.COMPLETED, lambda story, now: story.succeeded(Collected(), now)),
    "result late": attempt(
        Reason.COMPLETED, lambda story, now: (story.collecting("503", now), story.succeeded(Collected(), now))
    ),
    "refused": lambda story, now: story.input_refused(Reason.DATASET_EMPTY, "no text", now),
    "cancelled": lambda story, now: story.failed(Reason.CANCELLED, "cancelled", now),
    "given up": attempt(
        Reason.FAILED, lambda story, now: story.failed(Reason.MAX_ATTEMPTS_REACHED, "all of them failed", now)
    ),
    "cancelled in an attempt": lambda story, now: (
        story.attempt_started(now),
        story.failed(Reason.CANCELLED, "cancelled", now),
    ),
}


def counts(status: TrainingJobStatus) -> list[int]:
    """All that only ever grows."""
    assert status.attempt_counters
    counters = status.attempt_counters.model_dump()
    return [*counters.values(), status.observed_generation or 0]


def makes_sense(status: TrainingJobStatus) -> None:
    # None: nothing is said for people yet, and nothing is published.
    assert status.phase in {None, phase_of(status.conditions)}
    assert len({each.type for each in status.conditions}) == len(status.conditions)
    assert status.attempt_counters
    counters = status.attempt_counters
    assert [each.number for each in status.attempts] == list(
        range(max(1, counters.started - len(status.attempts) + 1), counters.started + 1)
    )
    assert all(each.end_time for each in status.attempts[:-1])
    assert TrainingJobStatus.from_wire(status.to_wire()) == status


def has_not_gone_back(before: TrainingJobStatus, after: TrainingJobStatus) -> None:
    assert all(old <= new for old, new in zip(counts(before), counts(after), strict=True))
    for old in before.conditions:
        new = after.condition(old.type)
        assert new, "a condition that was there is gone"
        assert new.last_transition_time >= old.last_transition_time
        assert new.status is old.status or new.last_transition_time > old.last_transition_time


@given(st.lists(st.sampled_from(sorted(STEPS)), max_size=20), st.sampled_from(sorted(ENDS)))
def test_whatever_happens_the_phase_follows_from_the_conditions_and_nothing_goes_back(
    steps: list[str], end: str
) -> None:
    story = Story.begin(JobRef(namespace="ns", name="job", uid="u", generation=1), "run", BEGUN)
    for minute, step in enumerate([*steps, end], start=1):
        before = story.status
        ({**STEPS, **ENDS})[step](story, BEGUN + timedelta(minutes=minute))
        makes_sense(story.status)
        has_not_gone_back(before, story.status)

    assert story.status.terminal
    assert story.status.phase
    assert story.status.completion_time
    assert story.status.attempts == [] or story.status.attempts[-1].end_time
    over = [story.status.condition(each) for each in (ConditionType.RECONCILING, ConditionType.SUSPENDED)]
    assert [each.status for each in over if each] in ([ConditionStatus.FALSE], [ConditionStatus.FALSE] * 2)
