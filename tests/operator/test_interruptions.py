"""What is away comes back, and nothing was lost or done twice. Each operator watches its test's namespace only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from perdure_api import names
from perdure_api.workflow import SIGNAL_CHECKPOINT, SIGNAL_WISHES

if TYPE_CHECKING:
    from tests.conftest import ApiServer
    from tests.operator.conftest import Jobs, Operate, Temporal
    from tests.temporal_server import TemporalServer

pytestmark = [pytest.mark.cluster, pytest.mark.temporal]

Until = Callable[..., Any]

FINISHED = {
    "observedGeneration": 1,
    "phase": "Succeeded",
    "conditions": [
        {
            "type": "Succeeded",
            "status": "True",
            "reason": "Finished",
            "message": "",
            "lastTransitionTime": "2026-11-22T12:00:00Z",
            "observedGeneration": 1,
        }
    ],
}


def test_a_killed_operator_leaves_nothing_undone_and_does_nothing_twice(
    api_server: ApiServer, operate: Operate, jobs: Jobs, temporal: Temporal, until: Until
) -> None:
    operator = operate(api_server.kubeconfig, PERDURE_WATCH_NAMESPACES=jobs.namespace)
    first = {jobs.workflow_id(name) for name in jobs.create_many(5)}
    until(lambda: temporal.workflows(jobs.namespace).keys() == first, "their workflows run")

    operator.kill()
    second = {jobs.workflow_id(name) for name in jobs.create_many(5)}
    operator.start()

    until(lambda: temporal.workflows(jobs.namespace).keys() == first | second, "all workflows run")
    assert set(temporal.workflows(jobs.namespace).values()) == {"RUNNING"}


def test_what_is_asked_for_while_no_operator_runs_is_not_lost(
    api_server: ApiServer, operate: Operate, jobs: Jobs, temporal: Temporal, until: Until
) -> None:
    operator = operate(api_server.kubeconfig, PERDURE_WATCH_NAMESPACES=jobs.namespace)
    cancelled, suspended, asked = chosen = jobs.create_many(3)
    ids = {name: jobs.workflow_id(name) for name in chosen}
    until(lambda: temporal.workflows(jobs.namespace).keys() == set(ids.values()), "their workflows run")

    operator.kill()
    jobs.annotate(cancelled, f"{names.ANNOTATION_CANCEL}=true")
    patch = json.dumps({"spec": {"suspend": True}})
    jobs.kubectl("patch", names.PLURAL, suspended, "-n", jobs.namespace, "--type=merge", "-p", patch)
    jobs.annotate(asked, f"{names.ANNOTATION_CHECKPOINT}=power")
    operator.start()

    until(lambda: temporal.cancel_requested(ids[cancelled]), "one is asked to end")
    until(lambda: temporal.signals(ids[suspended]) == [SIGNAL_WISHES], "one is told what is wished")
    until(lambda: temporal.signals(ids[asked]) == [SIGNAL_CHECKPOINT], "one is asked for a checkpoint")


def test_two_operators_by_accident_start_one_workflow(
    api_server: ApiServer, operate: Operate, jobs: Jobs, temporal: Temporal, until: Until
) -> None:
    one, two = (operate(api_server.kubeconfig, PERDURE_WATCH_NAMESPACES=jobs.namespace) for _ in range(2))

    ids = {jobs.workflow_id(name) for name in jobs.create_many(10)}

    for operator in (one, two):
        until(
            lambda operator=operator: sum(event["event"] == "workflow_started" for event in operator.events()) == 10,
            "each operator has taken all of them up",
        )
    assert temporal.workflows(jobs.namespace) == dict.fromkeys(ids, "RUNNING")


def test_an_operator_serves_no_namespace_that_it_was_not_given(
    api_server: ApiServer, operate: Operate, jobs: Jobs, temporal: Temporal, until: Until
) -> None:
    api_server.kubectl("create", "namespace", f"{jobs.namespace}-other")
    others = type(jobs)(jobs.kubectl, f"{jobs.namespace}-other")
    operate(api_server.kubeconfig, PERDURE_WATCH_NAMESPACES=jobs.namespace)

    foreign = others.create()
    own = jobs.create()
    until(lambda: temporal.status(jobs.workflow_id(own)) == "RUNNING", "the later one of its own is taken up")

    assert temporal.status(others.workflow_id(foreign)) is None


def test_an_operator_that_may_not_watch_yet_waits_and_stops_when_told(
    api_server: ApiServer, namespace: str, until: Until, tmp_path: Path, free_port: int
) -> None:
    """Its rights may be installed after it."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "nobody", "namespace": namespace}}
    api_server.kubectl("create", "-f", "-", document=account)
    token = api_server.kubectl("create", "token", "nobody", "-n", namespace).strip()
    environment = {
        **os.environ,
        "KUBECONFIG": str(api_server.kubeconfig_for(token)),
        "PERDURE_TEMPORAL_ADDRESS": "127.0.0.1:1",
        "PERDURE_NAMESPACE": namespace,
        "PERDURE_HTTP_PORT": str(free_port),
    }
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "perdure_operator"], env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    until(lambda: "waiting_for_api_server" in log.read_text(), "it waits")

    process.terminate()

    assert process.wait(timeout=15) == 0
    assert {json.loads(line)["event"] for line in log.read_text().splitlines()} == {"waiting_for_api_server"}


class TestWhileTemporalIsAway:
    @pytest.fixture(autouse=True)
    def _without_temporal(self, temporal: Temporal, temporal_server: TemporalServer) -> Any:
        yield
        temporal_server.stop()
        temporal_server.start()

    def test_a_new_object_waits_saying_so_and_starts_when_it_is_back(
        self,
        api_server: ApiServer,
        operate: Operate,
        jobs: Jobs,
        temporal: Temporal,
        temporal_server: TemporalServer,
        until: Until,
    ) -> None:
        temporal_server.stop()
        operator = operate(api_server.kubeconfig, PERDURE_WATCH_NAMESPACES=jobs.namespace)
        chosen = jobs.create_many(5)
        until(
            lambda: {jobs.reason(name) for name in chosen} == {"TemporalUnavailable"},
            "each says what it waits for",
        )
        assert jobs.condition(chosen[0], "Reconciling")["status"] == "True"  # type: ignore[index]
        assert temporal_server.address in until(lambda: jobs.events(chosen[0]), "an Event")["TemporalUnavailable"]
        status, page = operator.get("/readyz")
        assert (status, "temporal: ok" in page) == (200, False)

        temporal_server.start()

        ids = {jobs.workflow_id(name) for name in chosen}
        until(lambda: temporal.workflows(jobs.namespace) == dict.fromkeys(ids, "RUNNING"), "their workflows run")
        until(lambda: {jobs.reason(name) for name in chosen} == {"Pending"}, "no object says so any more")

    def test_nothing_of_the_waiting_is_left_on_a_job_that_finished(
        self,
        api_server: ApiServer,
        operate: Operate,
        jobs: Jobs,
        temporal: Temporal,
        temporal_server: TemporalServer,
        until: Until,
    ) -> None:
        """The workflow names no condition Reconciling when it is done, and what another manager said stays."""
        temporal_server.stop()
        operate(api_server.kubeconfig, PERDURE_WATCH_NAMESPACES=jobs.namespace)
        name = jobs.create()
        until(lambda: jobs.reason(name) == "TemporalUnavailable", "it says what it waits for")
        temporal_server.start()
        until(lambda: temporal.status(jobs.workflow_id(name)) == "RUNNING", "the workflow runs")

        jobs.set_status(name, **FINISHED)

        until(lambda: jobs.condition(name, "Reconciling") is None, "it does not say so any more")
        assert jobs.get(name)["status"] == {"attempts": [], **FINISHED}  # type: ignore[index]

    def test_what_was_never_started_can_be_deleted(
        self,
        api_server: ApiServer,
        operate: Operate,
        jobs: Jobs,
        temporal_server: TemporalServer,
        until: Until,
    ) -> None:
        temporal_server.stop()
        operate(api_server.kubeconfig, PERDURE_WATCH_NAMESPACES=jobs.namespace)
        name = jobs.create()
        until(lambda: jobs.reason(name) == "TemporalUnavailable", "it waits")

        jobs.delete(name)

        until(lambda: jobs.get(name) is None, "the object is gone")

    def test_the_deletion_of_a_running_job_waits_saying_so_until_it_is_back(
        self,
        api_server: ApiServer,
        operate: Operate,
        jobs: Jobs,
        temporal: Temporal,
        temporal_server: TemporalServer,
        until: Until,
    ) -> None:
        operate(api_server.kubeconfig, PERDURE_WATCH_NAMESPACES=jobs.namespace)
        name = jobs.create()
        id_ = jobs.workflow_id(name)
        until(lambda: temporal.status(id_) == "RUNNING", "the workflow runs")
        temporal_server.stop()

        jobs.delete(name)

        until(lambda: jobs.reason(name) == "TemporalUnavailable", "it says what it waits for")
        assert names.ANNOTATION_FORCE_DELETE in jobs.condition(name, "Reconciling")["message"]  # type: ignore[index]
        temporal_server.start()
        with temporal.worker():
            until(lambda: jobs.get(name) is None, "the object is gone")
        assert temporal.status(id_) == "CANCELED"

    def test_a_cancel_waits_until_it_is_back(
        self,
        api_server: ApiServer,
        operate: Operate,
        jobs: Jobs,
        temporal: Temporal,
        temporal_server: TemporalServer,
        until: Until,
    ) -> None:
        operate(api_server.kubeconfig, PERDURE_WATCH_NAMESPACES=jobs.namespace)
        name = jobs.create()
        id_ = jobs.workflow_id(name)
        until(lambda: temporal.status(id_) == "RUNNING", "the workflow runs")
        temporal_server.stop()

        jobs.annotate(name, f"{names.ANNOTATION_CANCEL}=true")

        until(lambda: jobs.reason(name) == "TemporalUnavailable", "it says what it waits for")
        temporal_server.start()
        until(lambda: temporal.cancel_requested(id_), "the workflow is asked to end")

    def test_a_forced_deletion_does_not_wait(
        self,
        api_server: ApiServer,
        operate: Operate,
        jobs: Jobs,
        temporal: Temporal,
        temporal_server: TemporalServer,
        until: Until,
    ) -> None:
        operate(api_server.kubeconfig, PERDURE_WATCH_NAMESPACES=jobs.namespace)
        name = jobs.create()
        until(lambda: temporal.status(jobs.workflow_id(name)) == "RUNNING", "the workflow runs")
        temporal_server.stop()
        jobs.annotate(name, f"{names.ANNOTATION_FORCE_DELETE}=true")

        jobs.delete(name)

        until(lambda: jobs.get(name) is None, "the object is gone")

    def test_a_temporal_that_lost_its_data_is_given_its_workflows_again_but_those_of_finished_jobs(
        self,
        api_server: ApiServer,
        operate: Operate,
        jobs: Jobs,
        temporal: Temporal,
        temporal_server: TemporalServer,
        until: Until,
    ) -> None:
        operate(api_server.kubeconfig, PERDURE_WATCH_NAMESPACES=jobs.namespace)
        going_on, over = jobs.create_many(2)
        until(lambda: len(temporal.workflows(jobs.namespace)) == 2, "both workflows run")
        jobs.set_status(over, **FINISHED)

        temporal_server.stop()
        temporal_server.forget()
        temporal_server.start()

        until(
            lambda: temporal.workflows(jobs.namespace) == {jobs.workflow_id(going_on): "RUNNING"},
            "one workflow runs again",
        )


class TestASpecThatThisVersionCannotRead:
    """A CRD can be newer than the operator, or edited by hand."""

    @pytest.fixture(autouse=True)
    def _lax_crd(self, api_server: ApiServer) -> Any:
        crd = f"{names.PLURAL}.{names.GROUP}"
        patch = [
            {
                "op": "add",
                "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/quantum",
                "value": {"type": "boolean"},
            }
        ]
        api_server.kubectl("patch", "crd", crd, "--type=json", "-p", json.dumps(patch))
        yield
        patch = [{"op": "remove", "path": patch[0]["path"]}]
        api_server.kubectl("patch", "crd", crd, "--type=json", "-p", json.dumps(patch))

    def test_fails_its_object_saying_what_was_found(
        self, api_server: ApiServer, operate: Operate, jobs: Jobs, temporal: Temporal, until: Until
    ) -> None:
        operate(api_server.kubeconfig, PERDURE_WATCH_NAMESPACES=jobs.namespace)

        name = until(lambda: _created(jobs, quantum=True), "the API server has taken the new schema in")

        until(lambda: jobs.reason(name, "Succeeded") == "InvalidSpec", "it is failed")
        assert jobs.condition(name, "Accepted")["status"] == "False"  # type: ignore[index]
        assert jobs.condition(name, "Succeeded")["status"] == "False"  # type: ignore[index]
        assert jobs.condition(name, "Stalled")["status"] == "True"  # type: ignore[index]
        assert "spec.quantum" in jobs.condition(name, "Stalled")["message"]  # type: ignore[index]
        assert "InvalidSpec" in until(lambda: jobs.events(name), "an Event says so")
        assert temporal.workflows(jobs.namespace) == {}
        jobs.delete(name)
        until(lambda: jobs.get(name) is None, "it can be deleted")


def _created(jobs: Jobs, **spec: Any) -> str | None:
    """A new object; None when the API server dropped a field that it does not know yet."""
    name = jobs.create(**spec)
    document = jobs.get(name)
    if document and spec.keys() <= document["spec"].keys():
        return name
    jobs.delete(name)
    return None
