"""What the operator writes, against a real API server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from perdure_api import names
from perdure_api.conditions import ConditionType, Reason
from perdure_control.cluster import Cluster
from perdure_control.statuses import TRAINING_JOBS, EventSource, Written, apply_status
from perdure_operator import answers
from perdure_operator.objects import TrainingJobs
from perdure_operator.observation import Observation, observe
from perdure_workers.story import Story
from tests.conftest import ApiServer
from tests.operator.conftest import Jobs

pytestmark = pytest.mark.cluster

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def cluster(api_server: ApiServer) -> AsyncIterator[Cluster]:
    async with await Cluster.connect("tests", kubeconfig=str(api_server.kubeconfig)) as cluster:
        yield cluster


async def seen(cluster: Cluster, namespace: str, name: str) -> Observation:
    return observe(await cluster.get(TRAINING_JOBS.path(namespace, name)))


async def test_what_is_said_of_a_job_that_goes_on_says_nothing_of_one_that_has_finished_since(
    cluster: Cluster, jobs: Jobs, namespace: str
) -> None:
    """Temporal answers again, the workflow tells the end, and the operator, who is later, that it goes on."""
    objects = TrainingJobs(cluster, EventSource("tests", "tests"))
    name = jobs.create()
    before = await seen(cluster, namespace, name)
    await objects.publish(before, answers.waiting_for_temporal(before, "temporal:7233", NOW))
    story = Story.begin(before.job, "run", NOW)
    story.failed(Reason.CANCELLED, "cancelled", NOW)
    await apply_status(cluster, before.job, story.status.to_wire(), manager=names.FIELD_MANAGER_WORKFLOW)

    late = await objects.publish(before, answers.temporal_is_back(before, NOW))

    after = await seen(cluster, namespace, name)
    assert late is Written.FINAL
    (reconciling,) = [each for each in after.conditions if each.type is ConditionType.RECONCILING]
    assert reconciling.status == "False", json.dumps(reconciling.to_wire())
    waits = answers.deletion_waits(after, Reason.STORE_UNAVAILABLE, "it waits for its store", NOW)
    assert await objects.publish(after, waits) is Written.WRITTEN, "of what is known to have finished more may be said"
