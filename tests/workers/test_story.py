"""What happens → what the status says. The clock is the test's."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from perdure_api.conditions import ConditionStatus, ConditionType, Reason
from perdure_api.pod import ResultDocument, TerminationMessage
from perdure_api.status import AttemptCounters, AttemptStatus, TrainingJobStatus, WorkflowStatus
from perdure_api.workflow import JobRef
from perdure_workers.attempts.outcome import Outcome
from perdure_workers.messages import AttemptEnd, Collected, Input
from perdure_workers.story import Story, rfc3339, success_sentence

JOB = JobRef(namespace="ns", name="bible", uid="u", generation=3)
BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
RESULT = ResultDocument(
    job_uid="u",
    attempt=1,
    step=9,
    adapter_uri="s3://b/a",
    metrics={"eval_loss": 2.0},
    base_metrics={"eval_loss": 3.0},
)
ENDED = Outcome(reason=Reason.FAILED, message="why", exit_code=137, signal="SIGKILL", node="node-1")

TRUE, FALSE, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN


def at(minute: int) -> datetime:
    return BEGUN + timedelta(minutes=minute)


def begun() -> Story:
    return Story.begin(JOB, "run", at(0))


def after_an_attempt(outcome: Outcome = ENDED) -> Story:
    story = begun()
    story.attempt_started(at(1))
    story.attempt_ended(AttemptEnd(outcome=outcome, from_step=0, to_step=9), at(2))
    return story


def conditions(story: Story) -> dict[str, tuple[ConditionStatus, str]]:
    return {condition.type: (condition.status, condition.reason) for condition in story.status.conditions}


def headline(story: Story) -> tuple[str | None, str | None]:
    return story.status.phase, story.status.reason


def since(story: Story, type_: ConditionType) -> str:
    condition = story.status.condition(type_)
    assert condition
    return condition.last_transition_time


def test_a_story_begins_with_the_wish_accepted_and_everything_to_be_done() -> None:
    story = begun()

    assert conditions(story) == {
        "Accepted": (TRUE, "Accepted"),
        "Succeeded": (UNKNOWN, "Pending"),
        "Reconciling": (TRUE, "Starting"),
    }
    assert story.status.observed_generation == 3
    assert story.status.start_time == "2026-01-01T00:00:00Z"
    assert story.status.workflow == WorkflowStatus(id="trainingjob/ns/bible/u", run_id="run")
    assert story.counters == AttemptCounters(started=0, failed=0, disrupted=0)
    assert {condition.observed_generation for condition in story.status.conditions} == {3}


@pytest.mark.parametrize(("problem", "reason"), [(None, "Checking"), ("503", "StoreUnavailable")])
def test_while_inputs_are_looked_at_the_status_says_so_and_what_it_waits_for(problem: str | None, reason: str) -> None:
    story = begun()
    story.checking(at(1), problem)

    assert conditions(story)["DatasetReady"] == (UNKNOWN, reason)
    assert conditions(story)["Reconciling"] == (TRUE, reason)
    assert headline(story) == ("Pending", reason)
    assert story.status.message == (problem or "reading the dataset")


def test_inputs_that_are_good_are_ready() -> None:
    story = begun()
    story.checked(Reason.DATASET_CHECKED, "5 documents", at(1))

    assert conditions(story)["DatasetReady"] == (TRUE, "DatasetChecked")


def test_inputs_that_are_refused_end_the_story() -> None:
    story = begun()
    story.checking(at(1))
    story.input_refused(Reason.DATASET_EMPTY, "no text", at(2))

    assert conditions(story) == {
        "Accepted": (TRUE, "Accepted"),
        "DatasetReady": (FALSE, "DatasetEmpty"),
        "Succeeded": (FALSE, "DatasetEmpty"),
        "Reconciling": (FALSE, "Finished"),
        "Stalled": (TRUE, "DatasetEmpty"),
    }
    assert headline(story) == ("Failed", "DatasetEmpty")
    assert story.status.message == "no text"


@pytest.mark.parametrize("about", [Input.MODEL, Input.OUTPUT])
def test_the_dataset_is_not_blamed_for_another_input(about: Input) -> None:
    story = begun()
    story.checking(at(1))
    story.input_refused(Reason.ACCESS_DENIED, "access denied", at(2), about)

    assert conditions(story)["DatasetReady"] == (UNKNOWN, "NotChecked")
    assert conditions(story)["Stalled"] == (TRUE, "AccessDenied")
    assert headline(story) == ("Failed", "AccessDenied")


def test_a_result_that_cannot_be_read_yet_is_waited_for_aloud() -> None:
    story = after_an_attempt(Outcome(reason=Reason.COMPLETED, message="done", exit_code=0))
    story.collecting("s3://b/r.json: the store cannot be reached", at(3))

    assert conditions(story)["Running"] == (FALSE, "Finished")
    assert conditions(story)["Reconciling"] == (TRUE, "StoreUnavailable")
    assert headline(story) == ("Running", "StoreUnavailable")
    assert story.status.message == (
        "training is done; its result is waited for: s3://b/r.json: the store cannot be reached"
    )


def test_attempts_are_numbered_from_one_and_named_after_their_jobs() -> None:
    story = begun()

    assert story.attempt_started(at(1)) == 1
    assert story.status.attempts == [AttemptStatus(number=1, job="bible-1", start_time="2026-01-01T00:01:00Z")]
    assert story.counters.started == 1
    assert conditions(story)["Running"] == (FALSE, "Starting")
    assert conditions(story)["Reconciling"] == (TRUE, "Starting")
    assert headline(story) == ("Starting", "Starting")


def test_the_end_of_an_attempt_is_written_beside_its_beginning() -> None:
    story = after_an_attempt()

    assert story.status.attempts == [
        AttemptStatus(
            number=1,
            job="bible-1",
            start_time="2026-01-01T00:01:00Z",
            end_time="2026-01-01T00:02:00Z",
            reason="Failed",
            message="why",
            exit_code=137,
            signal="SIGKILL",
            node="node-1",
            from_step=0,
            to_step=9,
        )
    ]
    assert story.counters == AttemptCounters(started=1, failed=1, disrupted=0)


def test_only_the_newest_attempts_are_shown_and_an_end_is_the_newest_ones() -> None:
    story = begun()
    for number in range(1, 13):
        story.attempt_started(at(number))
        story.attempt_ended(AttemptEnd(outcome=ENDED, to_step=number), at(number))

    assert [(attempt.number, attempt.to_step) for attempt in story.status.attempts] == [(n, n) for n in range(3, 13)]
    assert (story.counters.started, story.counters.failed) == (12, 12)


def test_a_refused_start_says_who_refuses() -> None:
    story = begun()
    story.attempt_started(at(1))
    story.start_refused("exceeded quota", at(2))

    assert conditions(story)["Running"] == (FALSE, "JobRefused")
    assert conditions(story)["Reconciling"] == (TRUE, "JobRefused")
    assert headline(story) == ("Starting", "JobRefused")
    assert story.status.message == "exceeded quota"


def test_a_retry_says_what_happened_and_when_it_goes_on() -> None:
    story = after_an_attempt()
    story.retrying(9.6, at(3))

    assert conditions(story)["Running"] == (FALSE, "Retrying")
    assert conditions(story)["Reconciling"] == (TRUE, "Retrying")
    assert headline(story) == ("Retrying", "Retrying")
    assert story.status.message
    assert "why" in story.status.message
    assert "10 s" in story.status.message


def test_a_good_end_names_the_adapter_and_what_it_is_worth() -> None:
    story = after_an_attempt(Outcome(reason=Reason.COMPLETED, message="done", exit_code=0))
    story.succeeded(Collected(document=RESULT, uri="s3://b/r.json"), at(5))

    assert conditions(story) == {
        "Accepted": (TRUE, "Accepted"),
        "Running": (FALSE, "Finished"),
        "Succeeded": (TRUE, "Completed"),
        "Reconciling": (FALSE, "Finished"),
    }
    assert headline(story) == ("Succeeded", "Completed")
    assert story.status.completion_time == "2026-01-01T00:05:00Z"
    assert story.status.result
    assert story.status.result.to_wire() == {
        "adapterUri": "s3://b/a",
        "resultUri": "s3://b/r.json",
        "metrics": {"eval_loss": 2.0},
        "baseMetrics": {"eval_loss": 3.0},
    }


def test_a_good_end_needs_no_result() -> None:
    story = after_an_attempt(Outcome(reason=Reason.COMPLETED, message="done", exit_code=0))
    story.succeeded(Collected(), at(5))

    assert headline(story) == ("Succeeded", "Completed")
    assert story.status.result is None


def test_a_bad_end_is_one_that_cannot_go_on() -> None:
    story = after_an_attempt()
    story.failed(Reason.MAX_ATTEMPTS_REACHED, "all failed", at(5))

    assert conditions(story) == {
        "Accepted": (TRUE, "Accepted"),
        "Running": (FALSE, "Finished"),
        "Succeeded": (FALSE, "MaxAttemptsReached"),
        "Reconciling": (FALSE, "Finished"),
        "Stalled": (TRUE, "MaxAttemptsReached"),
    }
    assert {c.type for c in story.status.conditions if c.message == "all failed"} == {"Succeeded", "Stalled"}
    assert headline(story) == ("Failed", "MaxAttemptsReached")
    assert story.status.completion_time == "2026-01-01T00:05:00Z"


def test_a_job_that_never_ran_is_not_said_to_have_stopped_running() -> None:
    story = begun()
    story.failed(Reason.CANCELLED, "cancelled", at(1))

    assert "Running" not in conditions(story)


def test_the_time_of_a_condition_is_that_of_its_last_change_of_status_not_of_reason() -> None:
    story = begun()
    story.attempt_started(at(1))
    story.start_refused("exceeded quota", at(2))
    assert since(story, ConditionType.RUNNING) == "2026-01-01T00:01:00Z"
    assert since(story, ConditionType.RECONCILING) == "2026-01-01T00:00:00Z"

    story.failed(Reason.JOB_REFUSED, "exceeded quota", at(3))
    assert since(story, ConditionType.RUNNING) == "2026-01-01T00:01:00Z"
    assert since(story, ConditionType.RECONCILING) == "2026-01-01T00:03:00Z"


def test_conditions_stand_in_the_order_of_a_jobs_life() -> None:
    story = after_an_attempt()
    story.checked(Reason.DATASET_CHECKED, "", at(3))
    assert list(conditions(story)) == ["Accepted", "DatasetReady", "Running", "Succeeded", "Reconciling"]

    story.failed(Reason.FAILED, "", at(4))
    assert list(conditions(story)) == ["Accepted", "DatasetReady", "Running", "Succeeded", "Reconciling", "Stalled"]


def test_an_attempt_that_ended_says_which_checkpoint_it_committed_last() -> None:
    story = begun()
    for number, saved in ((1, 8), (2, None)):
        story.attempt_started(at(number))
        story.attempt_ended(AttemptEnd(outcome=ENDED, from_step=0, to_step=9, checkpoint_step=saved), at(number))

    assert [attempt.checkpoint_step for attempt in story.status.attempts] == [8, None]


LONG = ResultDocument(
    job_uid="u",
    attempt=1,
    step=9,
    metrics={**{f"m{number}": 1.0 for number in range(200)}, "x" * 129: 1.0, "a": float("nan")},
    base_metrics={"a": float("inf"), "b": 2.0},
)


@pytest.mark.parametrize(
    ("ended_at", "told"), [(at(2).timestamp(), at(2)), (None, at(5))], ids=["by its monitor", "by nobody"]
)
def test_an_attempt_ended_when_its_monitor_saw_it_however_late_it_is_told(
    ended_at: float | None, told: datetime
) -> None:
    """A worker may die after it published and before Temporal knows: the next one tells it again, later."""
    story = begun()
    story.attempt_started(at(1))
    story.attempt_ended(AttemptEnd(outcome=ENDED, ended_at=ended_at), at(5))
    assert story.status.attempts[-1].end_time == rfc3339(told)


@pytest.mark.parametrize(
    "words",
    ['{"message":"m","step":-1}', '{"message":"m","step":9223372036854775808}', '{"message":"m","fromStep":-1}'],
)
def test_whatever_a_container_leaves_the_api_server_takes_the_status(words: str) -> None:
    """One that it refuses is written again for ever: the job would never end."""
    last = TerminationMessage.decode(words)
    end = AttemptEnd(
        outcome=Outcome(reason=Reason.FAILED, message="x" * 5000, words=last),
        from_step=last.from_step,
        to_step=last.step,
    )
    story = begun()
    story.checking(at(1), "x" * 5000)
    story.attempt_started(at(1))
    story.attempt_ended(end, at(2))
    story.retrying(1, at(3))
    story.succeeded(Collected(document=LONG, uri="s3://b/r.json"), at(4))

    document = story.status.to_wire()
    json.dumps(document, allow_nan=False)
    assert TrainingJobStatus.from_wire(document) == story.status
    assert story.status.result
    assert len(story.status.result.metrics) == 64
    assert story.status.result.base_metrics == {"b": 2.0}


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        (None, "training completed"),
        (RESULT, "adapter s3://b/a; held-out loss 3 → 2"),
        (RESULT.model_copy(update={"base_metrics": {}}), "adapter s3://b/a"),
        (RESULT.model_copy(update={"metrics": {}}), "adapter s3://b/a"),
        (RESULT.model_copy(update={"adapter_uri": None}), "training completed; held-out loss 3 → 2"),
    ],
    ids=["no result", "all of it", "no loss before", "no loss after", "no adapter"],
)
def test_a_success_is_told_with_what_there_is(result: ResultDocument | None, sentence: str) -> None:
    assert success_sentence(Collected(document=result)) == sentence
