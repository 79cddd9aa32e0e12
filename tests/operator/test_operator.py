"""An operator with the rights of its chart and no others, on a real API server and a real Temporal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from perdure_api import names

if TYPE_CHECKING:
    from tests.conftest import ApiServer
    from tests.operator.conftest import Jobs, Operate, OperatorProcess, Temporal

pytestmark = [pytest.mark.cluster, pytest.mark.temporal]

RULES = [
    {
        "apiGroups": [names.GROUP],
        "resources": [names.PLURAL],
        "verbs": ["get", "list", "watch", "patch", "delete"],
    },
    {"apiGroups": [names.GROUP], "resources": [f"{names.PLURAL}/status"], "verbs": ["get", "patch"]},
    {"apiGroups": [names.GROUP], "resources": [f"{names.PLURAL}/finalizers"], "verbs": ["update"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
]
Until = Callable[..., Any]


@pytest.fixture(scope="module", autouse=True)
def operator(api_server: ApiServer, operate: Operate) -> Iterator[OperatorProcess]:
    account = {"name": "operator", "namespace": "perdure"}
    metadata = {"name": "perdure-operator"}
    rbac = "rbac.authorization.k8s.io"
    items = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "perdure"}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
        {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": metadata, "rules": RULES},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", **metadata},
            "subjects": [{"kind": "ServiceAccount", **account}],
        },
    ]
    api_server.kubectl("apply", "-f", "-", document={"apiVersion": "v1", "kind": "List", "items": items})
    token = api_server.kubectl("create", "token", "operator", "-n", "perdure").strip()
    operator = operate(api_server.kubeconfig_for(token))
    yield operator
    troubles = [event for event in operator.events() if event["level"] in {"error", "critical"}]
    assert [event["event"] for event in troubles if event["event"] != "workflow_lost"] == []
    assert operator.terminate() == 0


def finished(**extra: Any) -> dict[str, Any]:
    """The status of a job that has succeeded."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    common = {"observedGeneration": 1, "lastTransitionTime": now, "reason": "Finished", "message": "done"}
    return {
        "observedGeneration": 1,
        "phase": "Succeeded",
        "completionTime": now,
        "conditions": [
            {"type": "Accepted", "status": "True", **common},
            {"type": "Succeeded", "status": "True", **common},
            {"type": "Reconciling", "status": "False", **common},
        ],
        **extra,
    }


def test_a_new_object_starts_exactly_one_workflow(jobs: Jobs, temporal: Temporal, until: Until) -> None:
    name = jobs.create()
    id_ = jobs.workflow_id(name)

    until(lambda: temporal.status(id_) == "RUNNING", "the workflow runs")

    assert temporal.workflows(jobs.namespace) == {id_: "RUNNING"}
    assert jobs.get(name)["metadata"]["finalizers"] == [names.FINALIZER]  # type: ignore[index]


def test_a_new_object_never_reads_as_finished(jobs: Jobs, until: Until) -> None:
    """Tools that know kstatus take an object without conditions for done."""
    name = jobs.create()

    assert jobs.condition(name, "Reconciling")["status"] == "True"  # type: ignore[index]
    until(lambda: jobs.get(name)["metadata"].get("finalizers"), "it is taken up")  # type: ignore[index]
    assert jobs.condition(name, "Reconciling")["status"] == "True"  # type: ignore[index]


def test_the_happy_path_costs_one_write_of_the_object(jobs: Jobs, temporal: Temporal, until: Until) -> None:
    name = jobs.create()
    id_ = jobs.workflow_id(name)
    until(lambda: temporal.status(id_) == "RUNNING", "the workflow runs")

    managers = jobs.get(name)["metadata"].get("managedFields", [])  # type: ignore[index]

    assert [entry["operation"] for entry in managers if "perdure" in entry["manager"]] == []
    metadata = jobs.get(name)["metadata"]  # type: ignore[index]
    assert metadata["annotations"] == {names.ANNOTATION_HELD_FOR: metadata["uid"]}, "kopf writes none of its own"
    assert jobs.events(name) == {}


def test_fifty_objects_at_once_start_fifty_workflows(jobs: Jobs, temporal: Temporal, until: Until) -> None:
    chosen = jobs.create_many(50)
    ids = {jobs.workflow_id(name) for name in chosen}

    until(lambda: len(temporal.workflows(jobs.namespace)) == 50, "fifty workflows run")

    assert temporal.workflows(jobs.namespace) == dict.fromkeys(ids, "RUNNING")


def test_a_deleted_object_is_gone_once_its_workflow_has_cleaned_up(
    jobs: Jobs, temporal: Temporal, until: Until
) -> None:
    name = jobs.create()
    id_ = jobs.workflow_id(name)
    until(lambda: temporal.status(id_) == "RUNNING", "the workflow runs")
    temporal.signal(id_, "clean", False)

    with temporal.worker():
        jobs.delete(name)
        until(lambda: temporal.cancel_requested(id_), "the workflow is asked to end")
        assert jobs.get(name), "gone before its workflow had cleaned up"
        temporal.signal(id_, "clean", True)
        until(lambda: jobs.get(name) is None, "the object is gone")

    assert temporal.status(id_) == "CANCELED"


def test_a_deleted_object_whose_workflow_hangs_goes_at_once_when_forced(
    jobs: Jobs, temporal: Temporal, until: Until
) -> None:
    name = jobs.create()
    id_ = jobs.workflow_id(name)
    until(lambda: temporal.status(id_) == "RUNNING", "the workflow runs")
    jobs.delete(name)  # no worker: it never ends
    until(lambda: temporal.cancel_requested(id_), "the workflow is asked to end")
    assert jobs.get(name), "gone although its workflow runs"

    jobs.annotate(name, f"{names.ANNOTATION_FORCE_DELETE}=true")

    until(lambda: jobs.get(name) is None, "the object is gone")
    assert temporal.status(id_) == "RUNNING"


def test_an_object_whose_finalizer_others_took_off_still_ends_its_workflow(
    jobs: Jobs, temporal: Temporal, until: Until
) -> None:
    name = jobs.create()
    id_ = jobs.workflow_id(name)
    until(lambda: temporal.status(id_) == "RUNNING", "the workflow runs")

    patch = json.dumps({"metadata": {"finalizers": None}})
    jobs.kubectl("patch", names.PLURAL, name, "-n", jobs.namespace, "--type=merge", "-p", patch)
    jobs.delete(name)

    until(lambda: temporal.cancel_requested(id_), "the workflow is asked to end")


def test_a_finished_object_is_deleted_without_ado(jobs: Jobs, temporal: Temporal, until: Until) -> None:
    name = jobs.create()
    id_ = jobs.workflow_id(name)
    until(lambda: temporal.status(id_) == "RUNNING", "the workflow runs")
    jobs.set_status(name, **finished())
    with temporal.worker():
        temporal.signal(id_, "end", None)
        until(lambda: temporal.status(id_) == "COMPLETED", "the workflow ends")

    jobs.delete(name)

    until(lambda: jobs.get(name) is None, "the object is gone")


def test_a_finished_object_is_deleted_after_its_time_to_live(jobs: Jobs, temporal: Temporal, until: Until) -> None:
    name = jobs.create(ttlSecondsAfterFinished=2)
    id_ = jobs.workflow_id(name)
    until(lambda: temporal.status(id_) == "RUNNING", "the workflow runs")

    with temporal.worker():
        jobs.set_status(name, **finished())
        temporal.signal(id_, "end", None)
        assert jobs.get(name), "gone before its time"
        until(lambda: jobs.get(name) is None, "the object is gone")


def test_the_time_to_live_can_be_set_on_a_finished_object(jobs: Jobs, temporal: Temporal, until: Until) -> None:
    name = jobs.create()
    id_ = jobs.workflow_id(name)
    until(lambda: temporal.status(id_) == "RUNNING", "the workflow runs")
    with temporal.worker():
        jobs.set_status(name, **finished())
        temporal.signal(id_, "end", None)
        until(lambda: temporal.status(id_) == "COMPLETED", "the workflow ends")

    patch = json.dumps({"spec": {"ttlSecondsAfterFinished": 0}})
    jobs.kubectl("patch", names.PLURAL, name, "-n", jobs.namespace, "--type=merge", "-p", patch)

    until(lambda: jobs.get(name) is None, "the object is gone")


def test_a_change_of_a_finished_object_is_acknowledged(jobs: Jobs, temporal: Temporal, until: Until) -> None:
    """`kubectl wait` and kstatus do not believe a status that speaks of an older generation."""
    name = jobs.create()
    id_ = jobs.workflow_id(name)
    until(lambda: temporal.status(id_) == "RUNNING", "the workflow runs")
    jobs.set_status(name, **finished(message="as the workflow said"))

    patch = json.dumps({"spec": {"ttlSecondsAfterFinished": 3600}})
    jobs.kubectl("patch", names.PLURAL, name, "-n", jobs.namespace, "--type=merge", "-p", patch)

    until(lambda: jobs.get(name)["status"]["observedGeneration"] == 2, "the new generation is acknowledged")  # type: ignore[index]
    assert jobs.get(name)["status"]["message"] == "as the workflow said"  # type: ignore[index]
    jobs.kubectl("wait", "--for=condition=Succeeded", f"{names.PLURAL}/{name}", "-n", jobs.namespace, "--timeout=5s")


def test_a_finished_object_never_starts_again(
    jobs: Jobs, temporal: Temporal, until: Until, operator: OperatorProcess
) -> None:
    """Not even when Temporal has forgotten its workflow and the operator is a new one."""
    name = jobs.create()
    id_ = jobs.workflow_id(name)
    until(lambda: temporal.status(id_) == "RUNNING", "the workflow runs")
    jobs.set_status(name, **finished())
    temporal.delete(id_)
    until(lambda: temporal.status(id_) is None, "the workflow is forgotten")

    operator.kill()
    operator.start()
    marker = jobs.create()
    until(lambda: temporal.status(jobs.workflow_id(marker)) == "RUNNING", "a later object is taken up")

    assert temporal.status(id_) is None


def test_a_status_that_was_wiped_starts_nothing_and_ends_nothing(
    jobs: Jobs, temporal: Temporal, until: Until, operator: OperatorProcess
) -> None:
    name = jobs.create()
    id_ = jobs.workflow_id(name)
    until(lambda: temporal.status(id_) == "RUNNING", "the workflow runs")
    going_on = [{**each, "status": "Unknown"} for each in finished()["conditions"] if each["type"] == "Succeeded"]
    jobs.set_status(name, phase="Running", conditions=going_on)

    patch = ["patch", names.PLURAL, name, "-n", jobs.namespace, "--subresource=status", "--type=merge"]
    jobs.kubectl(*patch, "-p", json.dumps({"status": None}))
    assert jobs.get(name)["status"]["phase"] == "Pending"  # type: ignore[index]
    operator.kill()
    operator.start()
    marker = jobs.workflow_id(jobs.create())
    until(lambda: temporal.status(marker) == "RUNNING", "a later object is taken up")

    assert temporal.workflows(jobs.namespace) == dict.fromkeys((id_, marker), "RUNNING")
    assert jobs.condition(name, "Succeeded") is None


def test_an_object_restored_from_a_backup_is_a_job_of_its_own(jobs: Jobs, temporal: Temporal, until: Until) -> None:
    """Whatever its backup says of a uid and of how it ended: both are the API server's to give."""
    name = jobs.create()
    before = jobs.workflow_id(name)
    until(lambda: temporal.status(before) == "RUNNING", "the workflow runs")
    jobs.set_status(name, **finished())
    with temporal.worker():
        temporal.signal(before, "end", None)
        until(lambda: temporal.status(before) == "COMPLETED", "the workflow ends")
    backup = jobs.get(name)
    assert backup
    jobs.delete(name)
    until(lambda: jobs.get(name) is None, "the object is gone")

    assert backup["metadata"]["annotations"][names.ANNOTATION_HELD_FOR] == backup["metadata"]["uid"]
    kept = {key: backup["metadata"][key] for key in ("name", "namespace", "uid", "finalizers", "annotations")}
    jobs.kubectl("create", "-f", "-", document={**backup, "metadata": kept})

    after = jobs.workflow_id(name)
    until(lambda: temporal.status(after) == "RUNNING", "a workflow of its own runs")
    assert temporal.workflows(jobs.namespace) == {before: "COMPLETED", after: "RUNNING"}
    assert jobs.condition(name, "Succeeded") is None
    restored = jobs.get(name)
    assert restored
    assert restored["metadata"]["finalizers"] == [names.FINALIZER]
    assert restored["metadata"]["annotations"][names.ANNOTATION_HELD_FOR] == restored["metadata"]["uid"]


def test_a_workflow_that_was_terminated_by_hand_fails_its_job(jobs: Jobs, temporal: Temporal, until: Until) -> None:
    name = jobs.create()
    id_ = jobs.workflow_id(name)
    until(lambda: temporal.status(id_) == "RUNNING", "the workflow runs")

    temporal.terminate(id_)

    until(lambda: jobs.reason(name, "Succeeded") == "WorkflowLost", "the job is failed")
    assert jobs.condition(name, "Succeeded")["status"] == "False"  # type: ignore[index]
    assert jobs.condition(name, "Stalled")["status"] == "True"  # type: ignore[index]
    assert jobs.condition(name, "Reconciling")["status"] == "False"  # type: ignore[index]
    assert "was terminated in Temporal before the job was finished" in jobs.get(name)["status"]["message"]  # type: ignore[index]
    assert "WorkflowLost" in until(lambda: jobs.events(name), "an Event says so")


def test_the_last_word_of_a_workflow_is_published_when_it_was_not(jobs: Jobs, temporal: Temporal, until: Until) -> None:
    """Nor does what the workflow published before stay where its last word says nothing of it."""
    result = finished()
    going_on = {**result["conditions"].pop(), "status": "True"}
    assert going_on["type"] == "Reconciling"
    name = jobs.create()
    id_ = jobs.workflow_id(name)
    until(lambda: temporal.status(id_) == "RUNNING", "the workflow runs")

    jobs.set_status(name, conditions=[going_on])

    with temporal.worker():
        temporal.signal(id_, "end", {**result, "message": "it went well"})
        until(lambda: jobs.reason(name, "Succeeded") == "Finished", "the status is published")

    assert jobs.condition(name, "Reconciling")["status"] == "False"  # type: ignore[index]
    assert jobs.get(name)["status"]["message"] == "it went well"  # type: ignore[index]
    assert jobs.get(name)["status"]["phase"] == "Succeeded"  # type: ignore[index]


def test_the_status_page_counts_objects_by_phase(
    jobs: Jobs, temporal: Temporal, until: Until, operator: OperatorProcess
) -> None:
    name = jobs.create()
    until(lambda: temporal.status(jobs.workflow_id(name)) == "RUNNING", "the workflow runs")

    _, page = operator.get("/metrics")

    values = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    assert float(values['perdure_operator_trainingjobs{phase="Pending"}']) >= 1
    assert float(values['perdure_operator_reconciles_total{result="start"}']) >= 1
    assert values["perdure_operator_temporal_up"] == "1.0"
