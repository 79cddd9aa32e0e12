"""Jobs behind limits, on a real API server and a real Temporal: what test_turns.py shows on paper holds there too.

Each operator watches its test's namespace only.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from perdure_api import names
from perdure_api.workflow import SIGNAL_WISHES

if TYPE_CHECKING:
    from tests.conftest import ApiServer
    from tests.operator.conftest import Jobs, Operate, Temporal

pytestmark = [pytest.mark.cluster, pytest.mark.temporal]

Until = Callable[..., Any]
TIME = "2026-11-22T12:00:00Z"


def condition(type_: str, status: str, reason: str) -> dict[str, Any]:
    common = {"message": "", "lastTransitionTime": TIME, "observedGeneration": 1}
    return {"type": type_, "status": status, "reason": reason, **common}


def as_workflow(*conditions: dict[str, Any], phase: str, generation: int) -> dict[str, Any]:
    """A status as the workflow publishes it."""
    return {
        "observedGeneration": generation,
        "phase": phase,
        "reason": phase,
        "message": f"the workflow says {phase}",
        "conditions": [condition("Accepted", "True", "Accepted"), *conditions],
    }


FINISHED = as_workflow(
    condition("Succeeded", "True", "Completed"),
    condition("Reconciling", "False", "Finished"),
    phase="Succeeded",
    generation=1,
)
SUSPENDED = as_workflow(
    condition("Suspended", "True", "Suspended"),
    condition("Succeeded", "Unknown", "Pending"),
    condition("Reconciling", "False", "Suspended"),
    phase="Suspended",
    generation=2,
)


def status(jobs: Jobs, name: str) -> dict[str, Any]:
    document = jobs.get(name)
    assert document, f"{name} is gone"
    found: dict[str, Any] = document["status"]
    return found


def position(jobs: Jobs, name: str) -> int | None:
    found: int | None = status(jobs, name).get("queue", {}).get("position")
    return found


def patch(jobs: Jobs, name: str, **spec: Any) -> None:
    jobs.kubectl("patch", names.PLURAL, name, "-n", jobs.namespace, "--type=merge", "-p", json.dumps({"spec": spec}))


def runs(jobs: Jobs, temporal: Temporal, name: str) -> bool:
    return temporal.status(jobs.workflow_id(name)) == "RUNNING"


def test_the_next_one_starts_when_one_is_done_and_of_its_waiting_nothing_is_left(
    api_server: ApiServer, operate: Operate, jobs: Jobs, temporal: Temporal, until: Until
) -> None:
    operate(api_server.kubeconfig, PERDURE_WATCH_NAMESPACES=jobs.namespace, PERDURE_MAX_CONCURRENT_JOBS="1")
    first, second, third = jobs.create_many(3)
    until(lambda: runs(jobs, temporal, first), "the first one runs")
    until(lambda: [position(jobs, name) for name in (second, third)] == [1, 2], "the others say where they wait")

    waiting = jobs.get(second)
    assert waiting is not None
    assert "finalizers" not in waiting["metadata"]
    assert waiting["status"]["observedGeneration"] == 1
    assert jobs.reason(second) == "Queued"
    assert waiting["status"]["message"].endswith("at most 1 run at a time (limits.maxConcurrentJobs)")
    assert len(temporal.workflows(jobs.namespace)) == 1
    jobs.set_status(first, **FINISHED)

    until(lambda: runs(jobs, temporal, second), "the second one runs")
    assert jobs.reason(second) == "Pending"
    assert position(jobs, second) is None
    until(lambda: position(jobs, third) == 1, "the third one has come up")
    assert len(temporal.workflows(jobs.namespace)) == 2


def test_a_restarted_operator_with_other_limits_stops_nothing_and_reorders_at_once(
    api_server: ApiServer, operate: Operate, jobs: Jobs, temporal: Temporal, until: Until
) -> None:
    operator = operate(api_server.kubeconfig, PERDURE_WATCH_NAMESPACES=jobs.namespace, PERDURE_MAX_CONCURRENT_JOBS="2")
    chosen = jobs.create_many(5)
    until(lambda: [position(jobs, name) for name in chosen] == [None, None, 1, 2, 3], "two run, and three wait")
    operator.kill()
    operator.environment["PERDURE_MAX_CONCURRENT_JOBS"] = "1"
    operator.start()
    until(lambda: "at most 1 run" in status(jobs, chosen[4])["message"], "the new limit is told")
    assert all(runs(jobs, temporal, name) for name in chosen[:2])

    patch(jobs, chosen[4], priority=1)

    until(lambda: [position(jobs, name) for name in chosen[2:]] == [2, 3, 1], "the last one is the next one")
    jobs.set_status(chosen[0], **FINISHED)
    until(lambda: operator.get("/metrics")[1].count("perdure_operator_slots_used 1.0"), "a slot is given back")
    assert not any(runs(jobs, temporal, name) for name in chosen[2:])
    jobs.set_status(chosen[1], **FINISHED)
    until(lambda: runs(jobs, temporal, chosen[4]), "the next one runs")
    assert status(jobs, chosen[4])["observedGeneration"] == 2
    assert len(temporal.workflows(jobs.namespace)) == 3


def test_a_resumed_job_is_told_so_when_its_turn_has_come(
    api_server: ApiServer, operate: Operate, jobs: Jobs, temporal: Temporal, until: Until
) -> None:
    operate(api_server.kubeconfig, PERDURE_WATCH_NAMESPACES=jobs.namespace, PERDURE_MAX_CONCURRENT_JOBS="1")
    first = jobs.create()
    until(lambda: runs(jobs, temporal, first), "the first one runs")
    id_ = jobs.workflow_id(first)
    patch(jobs, first, suspend=True)
    until(lambda: temporal.signals(id_) == [SIGNAL_WISHES], "its workflow hears of it")
    second = jobs.create()
    until(lambda: position(jobs, second) == 1, "the pods of the first one may still run")
    jobs.set_status(first, **SUSPENDED)
    until(lambda: runs(jobs, temporal, second), "the second one runs")

    patch(jobs, first, suspend=False)

    until(lambda: position(jobs, first) == 1, "the first one waits")
    assert status(jobs, first)["phase"] == "Queued"
    assert status(jobs, first)["observedGeneration"] == 2
    assert jobs.condition(first, "Suspended")["status"] == "True"  # type: ignore[index]
    assert temporal.signals(id_) == [SIGNAL_WISHES]
    jobs.set_status(second, **FINISHED)
    until(lambda: temporal.signals(id_) == [SIGNAL_WISHES] * 2, "its workflow hears that it may go on")
    assert position(jobs, first) is None
    assert jobs.reason(first) == "Resumed"


def test_what_waits_can_be_cancelled_and_deleted_at_once(
    api_server: ApiServer, operate: Operate, jobs: Jobs, temporal: Temporal, until: Until
) -> None:
    operate(
        api_server.kubeconfig, PERDURE_WATCH_NAMESPACES=jobs.namespace, PERDURE_NAMESPACE_LIMITS=f"{jobs.namespace}=0"
    )
    cancelled, deleted, left = jobs.create_many(3)
    until(lambda: position(jobs, left) == 3, "all wait")

    jobs.annotate(cancelled, f"{names.ANNOTATION_CANCEL}=true")
    jobs.delete(deleted)

    until(lambda: jobs.reason(cancelled, "Succeeded") == "Cancelled", "it is cancelled")
    assert jobs.get(deleted) is None
    assert "queue" not in status(jobs, cancelled)
    until(lambda: position(jobs, left) == 1, "the third one is the next one")
    assert f"limits.namespaces.{jobs.namespace}" in status(jobs, left)["message"]
    assert temporal.workflows(jobs.namespace) == {}
