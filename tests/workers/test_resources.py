"""What an attempt has in the cluster, against a real API server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial

import pytest
import pytest_asyncio
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from perdure_api import names
from perdure_api.conditions import Reason
from perdure_api.spec import TrainingJobSpec
from perdure_api.workflow import JobRef
from perdure_control.cluster import Cluster
from perdure_control.statuses import EventSource, record_event
from perdure_workers.activities import resources
from perdure_workers.activities.resources import ResourceActivities
from perdure_workers.manifests import PodDefaults
from perdure_workers.messages import CleanUp, CreateJob, FindAttempts
from tests.conftest import ApiServer

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(loop_scope="module")
async def activities(api_server: ApiServer) -> AsyncIterator[ResourceActivities]:
    async with await Cluster.connect("tests", kubeconfig=str(api_server.kubeconfig)) as cluster:
        record = partial(record_event, cluster, source=EventSource("tests", "one"))
        yield ResourceActivities(cluster, lambda: PodDefaults(trainer_image="trainer:1"), record)


def wish(api_server: ApiServer, name: str, nodes: int) -> CreateJob:
    """The first attempt at a TrainingJob that is there."""
    spec = {"trainer": {"image": "i", "command": ["torchrun", "train.py"]}, "resources": {"nodes": nodes}}
    document = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": {"name": name}, "spec": spec}
    api_server.kubectl("create", "-f", "-", document=document)
    uid = json.loads(api_server.kubectl("get", "trainingjob", name, "-o", "json"))["metadata"]["uid"]
    job = JobRef(namespace="default", name=name, uid=uid, generation=1)
    return CreateJob(job=job, spec=TrainingJobSpec.from_wire(spec).completed(), attempt=1)


def of_job(api_server: ApiServer, request: CreateJob) -> list[str]:
    """Its objects."""
    selector = f"{names.LABEL_JOB_UID}={request.job.uid}"
    return sorted(api_server.kubectl("get", "jobs,services", "-l", selector, "-o", "name").split())


async def test_several_nodes_get_a_service_for_all_attempts_and_it_goes_with_the_last(
    activities: ResourceActivities, api_server: ApiServer
) -> None:
    first = wish(api_server, "several", nodes=2)
    second = first.model_copy(update={"attempt": 2})
    environment = ActivityEnvironment()

    for request in (first, first, second):  # once more, as after a worker's death
        await environment.run(activities.create_training_job, request)
    assert of_job(api_server, first) == ["job.batch/several-1", "job.batch/several-2", "service/tj-several"]

    await environment.run(activities.cleanup_resources, CleanUp(job=first.job, attempt=1))
    assert of_job(api_server, first) == ["job.batch/several-2", "service/tj-several"]
    await environment.run(activities.cleanup_resources, CleanUp(job=first.job))
    await environment.run(activities.cleanup_resources, CleanUp(job=first.job))
    assert of_job(api_server, first) == []


async def test_one_node_gets_a_job_and_nothing_else(activities: ResourceActivities, api_server: ApiServer) -> None:
    request = wish(api_server, "one", nodes=1)
    await ActivityEnvironment().run(activities.create_training_job, request)

    assert of_job(api_server, request) == ["job.batch/one-1"]


async def test_a_job_is_isolated_by_a_policy_that_outlives_its_pods_and_says_what_is_said_now(
    api_server: ApiServer,
) -> None:
    rules: list[dict[str, object]] = [{"ports": [{"port": 443}]}]
    request = wish(api_server, "isolated", nodes=1)
    policy = names.network_policy_name("isolated", request.job.uid)
    async with await Cluster.connect("tests", kubeconfig=str(api_server.kubeconfig)) as cluster:
        record = partial(record_event, cluster, source=EventSource("tests", "one"))
        isolating = ResourceActivities(cluster, lambda: PodDefaults(trainer_image="t", egress=tuple(rules)), record)
        environment = ActivityEnvironment()
        await environment.run(isolating.create_training_job, request)
        rules[:] = [{"ports": [{"port": 8443}]}]
        await environment.run(isolating.create_training_job, request)
        await environment.run(isolating.cleanup_resources, CleanUp(job=request.job))

    assert of_job(api_server, request) == []
    kept = json.loads(api_server.kubectl("get", "networkpolicy", policy, "-o", "json"))
    assert [rule.get("ports") for rule in kept["spec"]["egress"]] == [None, [{"port": 8443, "protocol": "TCP"}]]
    assert kept["metadata"]["ownerReferences"][0]["uid"] == request.job.uid


async def test_a_service_of_somebody_else_is_neither_used_nor_deleted(
    activities: ResourceActivities, api_server: ApiServer
) -> None:
    api_server.kubectl("create", "service", "clusterip", "tj-taken", "--clusterip=None")
    request = wish(api_server, "taken", nodes=2)
    with pytest.raises(
        ApplicationError, match="a Service tj-taken that is not ours exists in namespace default"
    ) as told:
        await ActivityEnvironment().run(activities.create_training_job, request)
    await ActivityEnvironment().run(activities.cleanup_resources, CleanUp(job=request.job))

    assert told.value.type == Reason.JOB_REFUSED
    assert of_job(api_server, request) == []
    assert api_server.kubectl("get", "service", "tj-taken", "-o", "name").strip() == "service/tj-taken"


async def test_a_job_of_somebody_else_is_neither_used_nor_deleted(
    activities: ResourceActivities, api_server: ApiServer
) -> None:
    api_server.kubectl("create", "job", "occupied-1", "--image=i")
    theirs = api_server.kubectl("get", "job", "occupied-1", "-o", "jsonpath={.metadata.uid}")
    request = wish(api_server, "occupied", nodes=1)
    with pytest.raises(ApplicationError, match="a Job occupied-1 that is not ours exists in namespace default") as told:
        await ActivityEnvironment().run(activities.create_training_job, request)
    await ActivityEnvironment().run(activities.cleanup_resources, CleanUp(job=request.job))

    assert told.value.type == Reason.JOB_REFUSED
    assert api_server.kubectl("get", "job", "occupied-1", "-o", "jsonpath={.metadata.uid}") == theirs


def make_pod(api_server: ApiServer, request: CreateJob, suffix: str = "", attempt: int = 1, **metadata: object) -> None:
    """A pod of an attempt, which nobody but us will ever remove: its node is not there."""
    labels = {names.LABEL_JOB_UID: request.job.uid, names.LABEL_ATTEMPT: str(attempt)}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": request.job.name + suffix, "labels": labels, **metadata},
        "spec": {"nodeName": "lost", "containers": [{"name": "trainer", "image": "i"}]},
    }
    api_server.kubectl("create", "-f", "-", document=pod)


async def test_pods_that_may_run_on_are_waited_for_where_that_is_asked_and_an_event_says_so(
    activities: ResourceActivities, api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "_LONGEST_WAIT_SECONDS", 0.5)
    request = wish(api_server, "stuck", nodes=1)
    make_pod(api_server, request)
    patient = CleanUp(job=request.job, attempt=1, until_gone=True)

    await ActivityEnvironment().run(activities.cleanup_resources, CleanUp(job=request.job, attempt=1))
    assert events(api_server, "stuck") == []

    cleaning = asyncio.create_task(ActivityEnvironment().run(activities.cleanup_resources, patient))
    while not (told := events(api_server, "stuck")):
        assert not cleaning.done()
        await asyncio.sleep(0.1)
    assert "until stuck can no longer run: node lost does not answer" in told[0]
    api_server.kubectl("delete", "pod", "stuck", "--force", "--grace-period=0")
    await asyncio.wait_for(cleaning, 10)


def pods(api_server: ApiServer, request: CreateJob) -> dict[str, bool]:
    """Its pods, and whether each is to go."""
    selector = f"{names.LABEL_JOB_UID}={request.job.uid}"
    found = json.loads(api_server.kubectl("get", "pods", "-l", selector, "-o", "json"))["items"]
    return {pod["metadata"]["name"]: "deletionTimestamp" in pod["metadata"] for pod in found}


async def test_a_pod_that_was_taken_from_its_job_goes_with_its_attempt_and_others_with_theirs(
    activities: ResourceActivities, api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "_LONGEST_WAIT_SECONDS", 0.5)
    request = wish(api_server, "orphaned", nodes=1)
    make_pod(api_server, request)
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "owner", "uid": "of-a-job", "controller": True}
    make_pod(api_server, request, suffix="-owned", ownerReferences=[owner])
    make_pod(api_server, request, suffix="-second", attempt=2)

    await ActivityEnvironment().run(activities.cleanup_resources, CleanUp(job=request.job, attempt=1))
    assert pods(api_server, request) == {"orphaned": True, "orphaned-owned": False, "orphaned-second": False}

    await ActivityEnvironment().run(activities.cleanup_resources, CleanUp(job=request.job))
    assert pods(api_server, request) == {"orphaned": True, "orphaned-owned": False, "orphaned-second": True}


async def test_the_attempts_of_a_trainingjob_are_found_by_what_is_there_of_them(
    activities: ResourceActivities, api_server: ApiServer
) -> None:
    first = wish(api_server, "sought", nodes=2)
    await ActivityEnvironment().run(activities.create_training_job, first.model_copy(update={"attempt": 2}))
    make_pod(api_server, first)
    make_pod(api_server, wish(api_server, "sought-not", nodes=1))

    found = (await ActivityEnvironment().run(activities.find_attempts, FindAttempts(job=first.job))).attempts

    assert [(each.number, each.nodes, each.live, each.created_at is None) for each in found] == [
        (1, 1, True, True), (2, 2, True, False),
    ]  # fmt: skip


def events(api_server: ApiServer, name: str) -> list[str]:
    selector = f"--field-selector=involvedObject.name={name}"
    found = json.loads(api_server.kubectl("get", "events", selector, "-o", "json"))
    return [event["message"] for event in found["items"]]


async def test_no_further_attempt_begins_for_a_trainingjob_that_is_gone(
    activities: ResourceActivities, api_server: ApiServer
) -> None:
    """Its workflow could not be told so: Temporal was away, and the operator has forgotten it since."""
    first = wish(api_server, "gone", nodes=1)
    api_server.kubectl("delete", "trainingjob", "gone")
    wish(api_server, "gone", nodes=1)  # another one of its name changes nothing

    with pytest.raises(ApplicationError, match="its TrainingJob is gone") as caught:
        await ActivityEnvironment().run(activities.create_training_job, first.model_copy(update={"attempt": 2}))

    assert (caught.value.type, caught.value.non_retryable) == (Reason.CANCELLED, True)
    assert of_job(api_server, first) == []
