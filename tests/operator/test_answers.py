from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from perdure_api.conditions import Reason
from perdure_api.status import UNSEEN, TrainingJobStatus
from perdure_operator import answers
from perdure_operator.observation import Observation, observe
from perdure_operator.workflows import Standing

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
CREATED = "2026-11-22T11:00:00Z"
EARLIER = "2026-11-22T11:30:00Z"


def seen(status: object = None, spec: object = None) -> Observation:
    metadata = {"name": "tj", "namespace": "ml", "uid": "u", "generation": 3, "creationTimestamp": CREATED}
    return observe({"metadata": metadata, "spec": spec or {}, "status": status or UNSEEN})


def condition(type_: str, status: str) -> dict[str, Any]:
    return {"type": type_, "status": status, "reason": "R", "message": "m", "lastTransitionTime": EARLIER}


SUSPENDED = {"conditions": [condition("Accepted", "True"), condition("Suspended", "True")]}
RUNNING = seen({"phase": "Running", "conditions": [condition("Running", "True"), condition("Accepted", "True")]})


def statuses(document: dict[str, Any]) -> dict[str, str]:
    return {condition["type"]: condition["status"] for condition in document["conditions"]}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (answers.waiting_for_temporal(seen(), "temporal:7233", NOW), {"Reconciling": "True"}),
        (answers.deletion_waits(RUNNING, Reason.TEMPORAL_UNAVAILABLE, "why", NOW), {"Reconciling": "True"}),
        (
            answers.rejected(seen(), "spec.rank: found 0", NOW),
            {"Accepted": "False", "Succeeded": "False", "Reconciling": "False", "Stalled": "True"},
        ),
        (
            answers.lost(RUNNING, Standing.TERMINATED, NOW),
            {"Running": "False", "Succeeded": "False", "Reconciling": "False", "Stalled": "True"},
        ),
        (
            answers.lost(seen(), Standing.TIMED_OUT, NOW),
            {"Succeeded": "False", "Reconciling": "False", "Stalled": "True"},
        ),
    ],
    ids=["waiting", "deletion waits", "rejected", "lost while running", "lost before"],
)
def test_an_answer_says_this_and_speaks_of_the_newest_generation(
    document: dict[str, Any], expected: dict[str, str]
) -> None:
    assert statuses(document) == expected
    assert document["observedGeneration"] == 3
    assert {condition["observedGeneration"] for condition in document["conditions"]} == {3}
    assert TrainingJobStatus.from_wire(document)


@pytest.mark.parametrize(
    ("observed", "so", "then"),
    [
        (seen(), "the job cannot start yet; it starts by itself", "is being started"),
        (
            RUNNING,
            "what is asked of the job has to wait; its pods run on, and how they end is seen to",
            "goes on",
        ),
        (
            seen({"conditions": [condition("Accepted", "True"), condition("Running", "False")]}),
            "the job cannot go on yet; it goes on by itself",
            "goes on",
        ),
        (
            seen(SUSPENDED, {"suspend": True}),
            "the job stays suspended whatever is asked of it; that is seen to",
            "goes on",
        ),
        (seen(SUSPENDED), "the job cannot go on yet; it goes on by itself", "goes on"),
    ],
    ids=["not started", "running", "between attempts", "suspended", "to be resumed"],
)
def test_that_temporal_is_away_is_told_as_what_it_means_for_the_job(observed: Observation, so: str, then: str) -> None:
    (away,) = answers.waiting_for_temporal(observed, "temporal:7233", NOW)["conditions"]
    (back,) = answers.temporal_is_back(observed, NOW)["conditions"]

    beginning = f"Temporal at temporal:7233 cannot be reached, so {so} as soon as Temporal answers"
    assert away["message"].startswith(f"{beginning}. If this lasts, look at Temporal")
    assert answers.note_waiting(observed, "temporal:7233").message == beginning
    assert back["message"] == f"Temporal answers again; the job's workflow {then}"


@pytest.mark.parametrize(
    "standing",
    [each for each in Standing if each not in {Standing.MISSING, Standing.RUNNING}],
    ids=lambda each: each.name,
)
def test_a_lost_job_says_what_became_of_its_workflow_and_what_to_do(standing: Standing) -> None:
    message = answers.lost(RUNNING, standing, NOW)["message"]

    assert "trainingjob/ml/tj/u" in message
    assert "delete this TrainingJob" in message


def test_a_condition_keeps_the_time_of_its_last_transition() -> None:
    waiting = seen({"conditions": [condition("Reconciling", "True")]})

    document = answers.waiting_for_temporal(waiting, "temporal:7233", NOW)

    assert document["conditions"][0]["lastTransitionTime"] == EARLIER


def test_a_changed_condition_gets_the_time_of_now() -> None:
    document = answers.lost(RUNNING, Standing.FAILED, NOW)

    assert {condition["lastTransitionTime"] for condition in document["conditions"]} == {"2026-11-22T12:00:00Z"}


def test_no_condition_is_older_than_its_object() -> None:
    """The one that the API server gives a new object bears the epoch."""
    document = answers.waiting_for_temporal(seen(), "temporal:7233", NOW)

    assert document["conditions"][0]["lastTransitionTime"] == CREATED


@pytest.mark.parametrize(
    ("observation", "phase"), [(seen(), "Pending"), (RUNNING, None)], ids=["no workflow yet", "a workflow has spoken"]
)
def test_waiting_says_the_phase_only_while_no_workflow_does(observation: Observation, phase: str | None) -> None:
    assert answers.waiting_for_temporal(observation, "temporal:7233", NOW).get("phase") == phase


def test_an_acknowledged_status_is_the_same_but_for_its_generation() -> None:
    status = {
        "observedGeneration": 1,
        "phase": "Succeeded",
        "result": {"adapterUri": "s3://b/adapter"},
        "fromANewerRelease": True,
        "conditions": [{**condition("Succeeded", "True"), "observedGeneration": 1}],
    }

    document = answers.acknowledged(seen(status))

    assert document == {
        **status,
        "observedGeneration": 3,
        "conditions": [{**condition("Succeeded", "True"), "observedGeneration": 3}],
    }


DELETES = {"output": {"uri": "s3://b/out"}, "deletionPolicy": "DeleteCheckpoints"}
FORCE = "kubectl annotate tj -n ml tj perdure.dev/force-delete=true"
KEEP = 'kubectl patch tj -n ml tj --type=merge -p \'{"spec": {"deletionPolicy": "KeepCheckpoints"}}\''
FINISHED = {
    "observedGeneration": 2,
    "phase": "Failed",
    "message": "how it ended",
    "conditions": [condition("Succeeded", "False"), condition("Reconciling", "False")],
}


@pytest.mark.parametrize(
    "message",
    [
        answers.why_deletion_waits_for_temporal(seen(), "temporal:7233"),
        answers.note_slow_end(seen(), 60).message,
    ],
    ids=["Temporal is away", "slow"],
)
def test_how_to_force_a_deletion_is_a_command_that_can_be_pasted(message: str) -> None:
    assert message.endswith(f" To delete it at once, whatever its workflow does: {FORCE}")


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (
            answers.why_deletion_waits_for_store(seen(spec=DELETES), "s3://b: away"),
            "the deletion waits until its checkpoints are deleted, too: s3://b: away.",
        ),
        (
            answers.why_deletion_waits_for_temporal(seen(FINISHED, DELETES), "t:1"),
            "Temporal at t:1 cannot be reached, so its checkpoints cannot be deleted, and the deletion waits.",
        ),
        (
            answers.why_deletion_waits_for_temporal(seen(spec=DELETES), "t:1"),
            "Temporal at t:1 cannot be reached, so the job's workflow cannot be cancelled, and the deletion waits.",
        ),
        (
            answers.note_slow_purge(seen(spec=DELETES), 60).message,
            "deleted, but its checkpoints are still being deleted after 60 s; are the workers running?",
        ),
    ],
    ids=["the store is away", "Temporal is away", "Temporal is away while it runs", "slow"],
)
def test_a_deletion_that_waits_for_checkpoints_says_how_to_keep_them_and_how_not_to_wait(
    message: str, says: str
) -> None:
    how = f"To keep the checkpoints: {KEEP}. To delete it at once, and them when that can be done: {FORCE}"

    assert message == f"{says} {how}"


def test_what_can_be_done_fits_into_an_event_however_long_the_story_before_it() -> None:
    message = answers.why_deletion_waits_for_store(seen(spec=DELETES), "no " * 1000)

    assert len(message) < 1024
    assert message.endswith(FORCE)


def test_a_finished_job_whose_deletion_waits_is_still_told_as_it_ended() -> None:
    """What the operator names no longer would be removed, and how it ended may be in its own words."""
    document = answers.deletion_waits(seen(FINISHED), Reason.STORE_UNAVAILABLE, "why", NOW)

    assert statuses(document) == {"Succeeded": "False", "Reconciling": "True"}
    assert (document["phase"], document["message"], document["observedGeneration"]) == ("Failed", "how it ended", 3)


@pytest.mark.parametrize("observed", [seen(), RUNNING], ids=["before its first word", "running"])
def test_a_workflow_that_fails_is_told_of_with_its_problem_and_what_to_do(observed: Observation) -> None:
    status = answers.failing(observed, "ValueError: " + "x" * 5000, NOW)

    (condition,) = status["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("Reconciling", "True", "WorkflowFailing")
    assert "fails in the workers, again and again: ValueError: xxx" in condition["message"]
    assert "Upgrade Perdure" in condition["message"]
    assert answers.note_failing("ValueError: " + "x" * 5000).message == condition["message"]
    assert len(condition["message"]) < 1024
    assert ("phase" in status) is (observed is not RUNNING), "what a workflow has said is not spoken over"
