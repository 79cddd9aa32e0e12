"""Room on nodes: what is taken away goes on elsewhere, what lacks room shrinks, and grows when there is some."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from perdure_api.pod import ResultDocument
from perdure_api.uri import parse_uri
from perdure_data.stores import Stores
from tests.cluster.conftest import Document, Jobs, Kubectl, phase, step
from tests.cluster.shown import messages
from tests.cluster.spare_nodes import FILLS as NODES
from tests.cluster.spare_nodes import GPUS, TOLERATION, spare_nodes
from tests.cluster.wishes import FIRST_WAITS_TO_BE_STOPPED

pytestmark = [pytest.mark.cluster, pytest.mark.early, pytest.mark.timeout(900)]

ONE_POD_A_NODE = GPUS - 1

Happens = Callable[[Jobs, Kubectl], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def spare(jobs: Jobs, system: Kubectl) -> Iterator[None]:
    with spare_nodes(NODES, jobs, system):
        yield


@pytest.fixture(autouse=True)
def _mended(spare: None, system: Kubectl) -> Iterator[None]:
    yield
    NODES.mend(system)


@contextmanager
def tainted(jobs: Jobs, system: Kubectl) -> Iterator[None]:
    system("taint", "node", NODES.first, "broken=true:NoExecute")
    yield
    system("taint", "node", NODES.first, "broken:NoExecute-")


@contextmanager
def preempted(jobs: Jobs, system: Kubectl) -> Iterator[None]:
    """Somebody of more importance wants the GPUs of that node."""
    name = jobs.kubectl.namespace
    system("create", "priorityclass", name, "--value=1000")
    gpus = {"nvidia.com/gpu": ONE_POD_A_NODE}
    container = {"name": "urgent", "image": jobs.base_image, "command": ["sleep", "600"], "resources": {"limits": gpus}}
    spec = {
        "containers": [container],
        "priorityClassName": name,
        "nodeSelector": {"kubernetes.io/hostname": NODES.first},
        "tolerations": [TOLERATION],
    }
    metadata = {"name": "urgent"}
    jobs.kubectl("create", "-f", "-", document={"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    yield
    jobs.kubectl("delete", "pod", "urgent", "--force", "--grace-period=0")
    system("delete", "priorityclass", name)


@pytest.mark.parametrize(
    ("happens", "said"),
    [
        pytest.param(tainted, "deleting due to NoExecute taint", id="tainted"),
        pytest.param(preempted, "preempting", id="preempted"),
    ],
)
def test_what_is_taken_away_for_others_goes_on_elsewhere_and_says_why(
    jobs: Jobs, system: Kubectl, happens: Happens, said: str, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.id
    waits = jobs.own(
        "sh", "-c", FIRST_WAITS_TO_BE_STOPPED, resources={"gpusPerNode": ONE_POD_A_NODE}, retry={"maxAttempts": 1}
    )
    NODES.begin_on_first(jobs, system, name, waits)

    with happens(jobs, system):
        job = jobs.finished(name, seconds=180)

    assert phase(job) == "Succeeded", job["status"]
    first, second = job["status"]["attempts"]
    assert (first["reason"], second["reason"]) == ("Disrupted", "Completed")
    assert said in first["message"]
    assert second["node"] != NODES.first
    assert job["status"]["attemptCounters"].get("failed", 0) == 0


def tokens(stores: Stores, job: Document) -> float:
    document = stores.read(parse_uri(job["status"]["result"]["resultUri"]), limit_bytes=2**20)
    return ResultDocument.model_validate_json(document).metrics["tokens"]


def test_a_job_that_loses_one_of_two_nodes_goes_on_with_one_and_sees_each_sample_once(
    jobs: Jobs, system: Kubectl, tiny_inputs: Document, stores: Stores
) -> None:
    training = {"epochs": 60, "sequenceLength": 64, "learningRate": 0.001}
    shrinks: dict[str, Any] = {
        **tiny_inputs,
        "training": {**training, "batchSize": 2},
        "checkpoint": {"everySteps": 20},
        "resources": {"nodes": 2, "minNodes": 1, "gpusPerNode": ONE_POD_A_NODE},
        "deadlines": {"startSeconds": 30},
    }
    NODES.open(system, *NODES.nodes)
    jobs.create("shrinks", NODES.asked_for(shrinks))
    jobs.until("shrinks", lambda job: job["status"].get("checkpoint", {}).get("step", 0) > 0)
    (lost,) = [pod for pod in jobs.pods("shrinks") if pod["spec"]["nodeName"] == NODES.second]
    NODES.close(system, NODES.second)
    jobs.kubectl("delete", "pod", lost["metadata"]["name"], "--force", "--grace-period=0")
    jobs.create("undisturbed", {**tiny_inputs, "training": {**training, "batchSize": 4}})
    job, undisturbed = (jobs.finished(name, seconds=480) for name in ("shrinks", "undisturbed"))

    assert phase(job) == "Succeeded", job["status"]
    first, second, third = job["status"]["attempts"]
    assert (first["nodes"], second["nodes"], third.get("nodes")) == (2, 2, None)
    assert (second["reason"], third["reason"]) == ("NoCapacity", "Completed")
    assert third["fromStep"] > 0
    assert job["status"]["attemptCounters"]["unplaced"] == 1
    assert any("on 1 instead of 2 nodes" in message for message in messages(jobs, "shrinks", "NoCapacity"))
    assert tokens(stores, job) == tokens(stores, undisturbed), "each sample of each epoch once"


def test_a_job_with_one_of_two_nodes_goes_on_with_both_as_soon_as_there_is_room(
    jobs: Jobs, system: Kubectl, tiny_inputs: Document
) -> None:
    NODES.open(system, NODES.first)
    grows: dict[str, Any] = {
        **tiny_inputs,
        "training": {"maxSteps": 2000, "sequenceLength": 64, "learningRate": 0.001, "batchSize": 2},
        "checkpoint": {"everySteps": 100},
        "resources": {"nodes": 2, "minNodes": 1, "regrow": True, "gpusPerNode": ONE_POD_A_NODE},
        "deadlines": {"startSeconds": 15},
    }
    jobs.create("grows", NODES.asked_for(grows))
    jobs.until("grows", lambda job: step(job) > 0 and len(job["status"]["attempts"]) == 2)
    NODES.open(system, NODES.second)
    job = jobs.finished("grows", seconds=480)

    assert phase(job) == "Succeeded", job["status"]
    attempts = job["status"]["attempts"]
    assert [attempt["reason"] for attempt in attempts] == ["NoCapacity", "Regrown", "Completed"]
    assert [attempt.get("nodes", 1) for attempt in attempts] == [2, 1, 2]
    assert attempts[2]["fromStep"] > 0
    assert job["status"]["attemptCounters"]["failed"] == 0
    assert any("there is room for all nodes" in message for message in messages(jobs, "grows", "Regrown"))
    assert {pod["metadata"]["labels"]["perdure.dev/attempt"] for pod in jobs.pods("grows")} == {"3"}
