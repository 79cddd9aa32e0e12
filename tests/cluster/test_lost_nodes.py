"""Nodes that are lost, or only seem so: what still runs there does no harm, and nobody waits for it without need."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from perdure_api.pod import ResultDocument
from perdure_api.uri import parse_uri
from perdure_data.stores import Stores
from perdure_devcluster.paths import paths_from_environment
from tests.chaos.witness import Attempt, trainer_processes
from tests.cluster.conftest import Document, Jobs, Kubectl, condition, phase, step, wait_until
from tests.cluster.spare_nodes import (
    FIRST,
    GPUS,
    SECOND,
    SPARE,
    TOLERATION,
    close_nodes,
    mend_nodes,
    on_spare_nodes,
    open_nodes,
    spare_nodes,
)
from tests.cluster.test_outside import FIRST_WAITS_TO_BE_STOPPED
from tests.cluster.test_placement import events
from tests.cluster.test_resilience import devcluster, long_training, watching_pods

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

LOST = FIRST
ONE_POD_A_NODE = GPUS - 1

Happens = Callable[[Jobs, Kubectl], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def spare(jobs: Jobs, system: Kubectl) -> Iterator[None]:
    with spare_nodes(jobs, system):
        yield


@pytest.fixture(autouse=True)
def _mended(spare: None, system: Kubectl) -> Iterator[None]:
    yield
    mend_nodes(system)


def saved(job: Document) -> int:
    return int(job["status"].get("checkpoint", {}).get("step", 0))


def running(job: Document, attempt: int) -> bool:
    """Whether the machine has processes of an attempt, on whichever of its nodes."""
    wanted = Attempt(job["metadata"]["uid"], attempt)
    return any(process.attempt == wanted for process in trainer_processes())


def log_of(pod: Document) -> str:
    """What a container has logged, read on its node: no kubelet is asked."""
    metadata = pod["metadata"]
    folder = paths_from_environment(os.environ).state / "nodes" / LOST / "log-pods"
    name = f"{metadata['namespace']}_{metadata['name']}_{metadata['uid']}"
    return (folder / name / "trainer" / "0.log").read_text()


def begun(jobs: Jobs, system: Kubectl, name: str, spec: Document) -> Document:
    """The pod of a job's first attempt, on the node that will be lost; afterwards the other one is open too."""
    open_nodes(system, LOST)
    jobs.create(name, on_spare_nodes(spec))
    jobs.until(name, lambda job: phase(job) == "Running", 180)
    open_nodes(system, SECOND)
    (pod,) = jobs.pods(name)
    assert pod["spec"]["nodeName"] == LOST
    return pod


@pytest.mark.parametrize("fault", ["kill-node", "partition-node"])
def test_a_job_goes_on_elsewhere_at_once_when_its_node_is_given_up(
    jobs: Jobs, system: Kubectl, tiny_inputs: Document, fault: str
) -> None:
    pod = begun(jobs, system, fault, long_training(tiny_inputs, maxSteps=1000))
    jobs.until(fault, lambda job: saved(job) > 0)

    devcluster(fault, LOST)
    job = jobs.finished(fault, seconds=240)

    assert phase(job) == "Succeeded", job["status"]
    first, second = job["status"]["attempts"]
    assert (first["reason"], first["node"]) == ("Disrupted", LOST)
    assert f"node {LOST} does not answer" in first["message"]
    assert second["fromStep"] > 0
    assert job["status"]["attemptCounters"]["failed"] == 0
    # Only the node itself could have said that the pod has ended.
    assert pod["metadata"]["uid"] in {each["metadata"]["uid"] for each in jobs.pods(fault)}


def test_a_node_that_restarts_at_once_costs_no_attempt(jobs: Jobs, system: Kubectl) -> None:
    once = 'test "$PERDURE_ATTEMPT" != 1 || exec sleep 600'
    begun(jobs, system, "restarts", jobs.own("sh", "-c", once, retry={"maxAttempts": 1}))

    devcluster("kill-node", LOST)
    devcluster("start-node", LOST)
    job = jobs.finished("restarts", seconds=180)

    assert phase(job) == "Succeeded", job["status"]
    assert [attempt["reason"] for attempt in job["status"]["attempts"]] == ["Disrupted", "Completed"]
    assert job["status"]["attemptCounters"]["failed"] == 0


def test_a_trainer_whose_kubelet_died_trains_on_and_stops_when_it_finds_that_another_has_taken_over(
    jobs: Jobs, system: Kubectl, tiny_inputs: Document, stores: Stores
) -> None:
    pod = begun(jobs, system, "zombie", long_training(tiny_inputs, maxSteps=2500))
    jobs.until("zombie", lambda job: saved(job) > 0)

    devcluster("kill-component", f"{LOST}/kubelet")
    taken_over = "attempt 2 has taken over; attempt 1 ends without a trace"
    wait_until(lambda: taken_over in log_of(pod), 120, lambda: log_of(pod)[-2000:])
    job = jobs.finished("zombie", seconds=300)

    assert phase(job) == "Succeeded", job["status"]
    assert [attempt["reason"] for attempt in job["status"]["attempts"]] == ["Disrupted", "Completed"]
    assert "/attempts/2/" in job["status"]["result"]["adapterUri"]
    first_attempt = parse_uri(job["status"]["result"]["adapterUri"]).parent.parent.child("1")
    assert not [info.uri for info in stores.list_objects(first_attempt.child("adapter"))]


def test_a_trainer_on_a_node_that_was_cut_off_ends_when_the_node_is_back_and_changes_nothing(
    jobs: Jobs, system: Kubectl, tiny_inputs: Document, stores: Stores
) -> None:
    begun(jobs, system, "cut-off", long_training(tiny_inputs, maxSteps=4000))
    jobs.until("cut-off", lambda job: saved(job) > 0)

    devcluster("partition-node", LOST)
    job = jobs.until("cut-off", lambda job: len(job["status"]["attempts"]) == 2 and phase(job) == "Running", 180)
    assert running(job, 1), "it trains on, unseen"
    devcluster("heal-node", LOST)
    wait_until(lambda: not running(job, 1), 120, lambda: "it runs on")
    assert running(job, 2), "the other one is left alone"
    job = jobs.finished("cut-off", seconds=300)

    assert phase(job) == "Succeeded", job["status"]
    assert [attempt["reason"] for attempt in job["status"]["attempts"]] == ["Disrupted", "Completed"]
    adapter = parse_uri(job["status"]["result"]["adapterUri"])
    assert "/attempts/2/" in str(adapter)
    assert not stores.list_objects(adapter.parent.parent.child("1").child("adapter"))


@contextmanager
def tainted(jobs: Jobs, system: Kubectl) -> Iterator[None]:
    system("taint", "node", LOST, "broken=true:NoExecute")
    yield
    system("taint", "node", LOST, "broken:NoExecute-")


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
        "nodeSelector": {"kubernetes.io/hostname": LOST},
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
    begun(jobs, system, name, waits)

    with happens(jobs, system):
        job = jobs.finished(name, seconds=180)

    assert phase(job) == "Succeeded", job["status"]
    first, second = job["status"]["attempts"]
    assert (first["reason"], second["reason"]) == ("Disrupted", "Completed")
    assert said in first["message"]
    assert second["node"] != LOST
    assert job["status"]["attemptCounters"].get("failed", 0) == 0


def test_a_trainer_of_ones_own_is_waited_for_while_it_may_run(jobs: Jobs, system: Kubectl) -> None:
    first_lasts = '[ "$PERDURE_ATTEMPT" != 1 ] || sleep 600'
    with watching_pods(jobs.kubectl) as log:
        begun(jobs, system, "own", jobs.own("sh", "-c", first_lasts))

        devcluster("partition-node", LOST)
        jobs.until("own", lambda job: condition(job, "Running")["status"] == "Unknown")
        told = jobs.until("own", lambda job: "delete the node object" in job["status"].get("message", ""))
        devcluster("heal-node", LOST)
        job = jobs.finished("own", seconds=180)

    assert told["status"]["reason"] == "Disrupted"
    assert phase(job) == "Succeeded", job["status"]
    assert [attempt["reason"] for attempt in job["status"]["attempts"]] == ["Disrupted", "Completed"]
    assert log.most_at_once["own"] == 1


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
    open_nodes(system, *SPARE)
    jobs.create("shrinks", on_spare_nodes(shrinks))
    jobs.until("shrinks", lambda job: job["status"].get("checkpoint", {}).get("step", 0) > 0)
    (lost,) = [pod for pod in jobs.pods("shrinks") if pod["spec"]["nodeName"] == SECOND]
    close_nodes(system, SECOND)
    jobs.kubectl("delete", "pod", lost["metadata"]["name"], "--force", "--grace-period=0")
    jobs.create("undisturbed", {**tiny_inputs, "training": {**training, "batchSize": 4}})
    job, undisturbed = (jobs.finished(name, seconds=300) for name in ("shrinks", "undisturbed"))

    assert phase(job) == "Succeeded", job["status"]
    first, second, third = job["status"]["attempts"]
    assert (first["nodes"], second["nodes"], third.get("nodes")) == (2, 2, None)
    assert (second["reason"], third["reason"]) == ("NoCapacity", "Completed")
    assert third["fromStep"] > 0
    assert job["status"]["attemptCounters"]["unplaced"] == 1
    assert any("on 1 instead of 2 nodes" in message for message in events(jobs, "shrinks", "NoCapacity"))
    assert tokens(stores, job) == tokens(stores, undisturbed), "each sample of each epoch once"


def test_a_job_with_one_of_two_nodes_goes_on_with_both_as_soon_as_there_is_room(
    jobs: Jobs, system: Kubectl, tiny_inputs: Document
) -> None:
    open_nodes(system, FIRST)
    grows: dict[str, Any] = {
        **tiny_inputs,
        "training": {"maxSteps": 2000, "sequenceLength": 64, "learningRate": 0.001, "batchSize": 2},
        "checkpoint": {"everySteps": 100},
        "resources": {"nodes": 2, "minNodes": 1, "regrow": True, "gpusPerNode": ONE_POD_A_NODE},
        "deadlines": {"startSeconds": 15},
    }
    jobs.create("grows", on_spare_nodes(grows))
    jobs.until("grows", lambda job: step(job) > 0 and len(job["status"]["attempts"]) == 2)
    open_nodes(system, SECOND)
    job = jobs.finished("grows", seconds=300)

    assert phase(job) == "Succeeded", job["status"]
    attempts = job["status"]["attempts"]
    assert [attempt["reason"] for attempt in attempts] == ["NoCapacity", "Regrown", "Completed"]
    assert [attempt.get("nodes", 1) for attempt in attempts] == [2, 1, 2]
    assert attempts[2]["fromStep"] > 0
    assert job["status"]["attemptCounters"]["failed"] == 0
    assert any("there is room for all nodes" in message for message in events(jobs, "grows", "Regrown"))
    assert {pod["metadata"]["labels"]["perdure.dev/attempt"] for pod in jobs.pods("grows")} == {"3"}
