from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from perdure_api.status import UNSEEN, TrainingJobStatus
from perdure_operator import answers
from perdure_operator.observation import Observation, observe
from perdure_operator.workflows import Standing

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
CREATED = "2026-11-22T11:00:00Z"
EARLIER = "2026-11-22T11:30:00Z"


def seen(status: object = None) -> Observation:
    metadata = {"name": "tj", "namespace": "ml", "uid": "u", "generation": 3, "creationTimestamp": CREATED}
    return observe({"metadata": metadata, "spec": {}, "status": status or UNSEEN})


def condition(type_: str, status: str) -> dict[str, Any]:
    return {"type": type_, "status": status, "reason": "R", "message": "m", "lastTransitionTime": EARLIER}


RUNNING = seen({"phase": "Running", "conditions": [condition("Running", "True"), condition("Accepted", "True")]})


def statuses(document: dict[str, Any]) -> dict[str, str]:
    return {condition["type"]: condition["status"] for condition in document["conditions"]}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (answers.waiting_for_temporal(seen(), "temporal:7233", NOW), {"Reconciling": "True"}),
        (answers.deletion_waits_for_temporal(RUNNING, "temporal:7233", NOW), {"Reconciling": "True"}),
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


def test_how_to_force_a_deletion_is_a_command_that_can_be_pasted() -> None:
    note = answers.note_deletion_waits(seen(), "temporal:7233")

    assert note.message.endswith("kubectl annotate tj -n ml tj perdure.dev/force-delete=true")
