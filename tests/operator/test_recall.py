"""What of an object's status is given to a workflow that Temporal has to begin anew."""

from __future__ import annotations

from typing import Any

import pytest

from perdure_api.status import TrainingJobStatus
from perdure_operator.observation import observe
from perdure_operator.recall import recall

METADATA = {"name": "tj", "namespace": "ml", "uid": "new"}
OWN = {"workflow": {"id": "trainingjob/ml/tj/new", "runId": "r"}, "attemptCounters": {"started": 2, "failed": 1}}


def of(status: dict[str, Any]) -> TrainingJobStatus | None:
    return recall(observe({"metadata": METADATA, "spec": {}, "status": status}))


def condition(type_: str, status: str) -> dict[str, str]:
    return {"type": type_, "status": status, "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"phase": "Pending", "conditions": [condition("Reconciling", "True")]},
        {**OWN, "workflow": {"id": "trainingjob/ml/tj/old"}},
        {**OWN, "workflow": "trainingjob/ml/tj/new"},
        {**OWN, "conditions": [condition("Succeeded", "True")]},
        {**OWN, "attemptCounters": {"started": -1}},
    ],
    ids=[
        "nothing told",
        "told by others than a workflow",
        "from a backup of another uid",
        "of another shape",
        "finished",
        "unreadable",
    ],
)
def test_nothing_is_recalled_of(status: dict[str, Any]) -> None:
    assert of(status) is None


def test_the_workflows_part_of_its_own_status_is_recalled_and_what_others_tell_is_left_to_them() -> None:
    others = {"progress": {"step": 7}, "checkpoint": {"uri": "s3://b/c", "step": 5}, "queue": {"position": 3}}

    recalled = of({**OWN, **others, "conditions": [condition("Running", "True"), condition("Quantised", "True")]})

    assert recalled
    assert recalled.to_wire() == {
        **OWN,
        "attempts": [],
        "attemptCounters": {**recalled.to_wire()["attemptCounters"], "started": 2, "failed": 1},
        "conditions": [{**condition("Running", "True"), "message": "", "observedGeneration": 0}],
    }
