"""What the operator tells Prometheus of TrainingJobs."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from perdure_operator.admission import Limits
from perdure_operator.metrics import GaugeCollector, Gauges
from perdure_operator.observation import observe
from perdure_operator.tracker import Tracker

LONG_AGO = "2026-11-22T12:00:00Z"


def told(*conditions: tuple[str, str, str], gone: bool = False) -> dict[str, float]:
    """The unfinished TrainingJobs by reason, where there is one with these conditions: type, status, reason."""
    tracker = Tracker()
    document: dict[str, Any] = {
        "metadata": {"name": "job", "namespace": "ml", "uid": "u"},
        "status": {
            "conditions": [
                {"type": type_, "status": status, "reason": reason, "lastTransitionTime": LONG_AGO}
                for type_, status, reason in conditions
            ]
        },
    }
    tracker.see(observe(document)).gone = gone
    registry = CollectorRegistry()
    registry.register(GaugeCollector(Gauges(tracker, Limits(), lambda: 0, lambda: True, lambda: None)))
    return {
        sample.labels["reason"]: sample.value
        for family in registry.collect()
        if family.name == "perdure_operator_unfinished_trainingjobs"
        for sample in family.samples
    }


@pytest.mark.parametrize(
    ("conditions", "reason"),
    [
        ([], "Pending"),
        ([("Reconciling", "True", "StoreUnavailable")], "StoreUnavailable"),
        ([("Reconciling", "True", "Starting"), ("Running", "True", "PodRunning")], "PodRunning"),
        ([("Reconciling", "True", "Starting"), ("Running", "False", "NoCapacity")], "NoCapacity"),
        ([("Reconciling", "True", "WorkflowFailing"), ("Running", "True", "PodRunning")], "WorkflowFailing"),
        ([("Reconciling", "False", "Suspended"), ("Suspended", "True", "Suspended")], "Suspended"),
    ],
    ids=["nobody has looked", "before training", "its pod runs", "its pod waits", "its workflow fails", "suspended"],
)
def test_an_unfinished_job_is_counted_by_what_it_does_or_waits_for(
    conditions: list[tuple[str, str, str]], reason: str
) -> None:
    assert told(*conditions) == {reason: 1}


def test_a_job_that_is_finished_or_gone_is_not_counted() -> None:
    assert told(("Reconciling", "False", "Finished"), ("Succeeded", "False", "Diverged")) == {}
    assert told(("Reconciling", "True", "Starting"), gone=True) == {}
