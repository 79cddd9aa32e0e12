"""Status writes against a real API server, where several writers own parts of one object."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from perdure_api import names
from perdure_api.conditions import ConditionType, Reason
from perdure_api.workflow import JobRef
from perdure_control.cluster import Cluster
from perdure_control.statuses import Written, apply_status
from perdure_workers.messages import Collected
from perdure_workers.story import Story
from tests.conftest import ApiServer

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest_asyncio.fixture(loop_scope="module")
async def cluster(api_server: ApiServer) -> AsyncIterator[Cluster]:
    async with await Cluster.connect("tests", kubeconfig=str(api_server.kubeconfig)) as cluster:
        yield cluster


def create(api_server: ApiServer, name: str) -> JobRef:
    document = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": name},
        "spec": {"trainer": {"image": "i", "command": ["true"]}},
    }
    api_server.kubectl("create", "-f", "-", document=document)
    metadata = json.loads(api_server.kubectl("get", "trainingjob", name, "-o", "json"))["metadata"]
    return JobRef(namespace=metadata["namespace"], name=name, uid=metadata["uid"], generation=1)


def conditions(api_server: ApiServer, name: str) -> dict[str, str]:
    status = json.loads(api_server.kubectl("get", "trainingjob", name, "-o", "json"))["status"]
    return {condition["type"]: condition["status"] for condition in status["conditions"]}


def waiting_for_temporal() -> dict[str, Any]:
    condition = {
        "type": ConditionType.RECONCILING,
        "status": "True",
        "reason": Reason.TEMPORAL_UNAVAILABLE,
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "observedGeneration": 1,
    }
    return {"conditions": [condition], "observedGeneration": 1}


async def test_a_job_ends_although_the_operator_owns_a_part_of_a_condition(
    cluster: Cluster, api_server: ApiServer
) -> None:
    job = create(api_server, "shared")
    await apply_status(cluster, job, waiting_for_temporal(), manager=names.FIELD_MANAGER_OPERATOR)
    story = Story.begin(job, "run", NOW)
    await apply_status(cluster, job, story.status.to_wire(), manager=names.FIELD_MANAGER_WORKFLOW)
    story.attempt_started(NOW)
    await apply_status(cluster, job, story.status.to_wire(), manager=names.FIELD_MANAGER_WORKFLOW)

    story.succeeded(Collected(), NOW)
    written = await apply_status(cluster, job, story.status.to_wire(), manager=names.FIELD_MANAGER_WORKFLOW)

    assert written is Written.WRITTEN
    found = conditions(api_server, "shared")
    assert (found["Succeeded"], found["Reconciling"], found["Running"]) == ("True", "False", "False")


async def test_a_late_writer_does_not_wake_a_finished_job(cluster: Cluster, api_server: ApiServer) -> None:
    job = create(api_server, "late")
    story = Story.begin(job, "run", NOW)
    story.failed(Reason.CANCELLED, "cancelled", NOW)
    await apply_status(cluster, job, story.status.to_wire(), manager=names.FIELD_MANAGER_WORKFLOW)

    late = {"phase": "Running", "reason": "PodRunning", "message": "runs"}
    written = await apply_status(cluster, job, late, manager=names.FIELD_MANAGER_MONITOR)

    assert written is Written.FINAL
    assert conditions(api_server, "late")["Succeeded"] == "False"


async def test_another_object_of_the_same_name_is_left_alone(cluster: Cluster, api_server: ApiServer) -> None:
    job = create(api_server, "namesake").model_copy(update={"uid": "00000000-0000-0000-0000-000000000000"})

    written = await apply_status(cluster, job, waiting_for_temporal(), manager=names.FIELD_MANAGER_WORKFLOW)

    assert written is Written.GONE
    assert conditions(api_server, "namesake") == {"Reconciling": "True"}


async def test_an_object_that_is_gone_stays_gone(cluster: Cluster) -> None:
    job = JobRef(namespace="default", name="nobody", uid="u", generation=1)

    written = await apply_status(cluster, job, waiting_for_temporal(), manager=names.FIELD_MANAGER_WORKFLOW)

    assert written is Written.GONE
