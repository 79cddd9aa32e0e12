"""Nodes that are lost, or only seem so: what still runs there does no harm, and nobody waits for it without need."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from perdure_api.uri import parse_uri
from perdure_data.stores import Stores
from perdure_devcluster.paths import paths_from_environment
from tests.cluster.conftest import Document, Jobs, Kubectl, condition, phase, wait_until
from tests.cluster.test_outside import FIRST_WAITS_TO_BE_STOPPED
from tests.cluster.test_resilience import devcluster, long_training, watching_pods

pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.timeout(600)]

LOST = "n3"
"""Nothing of the installation is on it."""
GPUS = 3
"""Of the four that it offers."""

Happens = Callable[[Jobs, Kubectl], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def third_node(system: Kubectl) -> Iterator[None]:
    devcluster("up", "--nodes", "3")
    yield
    devcluster("up", "--nodes", "2")


@pytest.fixture
def others_closed(system: Kubectl, third_node: None) -> Iterator[None]:
    """A pod finds its place on the node that will be lost; whatever happens to that is mended in the end."""
    system("cordon", "n1", "n2")
    yield
    system("uncordon", "n1", "n2")
    devcluster("up")
    wait_until(lambda: is_open(system), 60, lambda: f"{LOST} is not back")


def is_open(system: Kubectl) -> bool:
    """Whether the node is ready, and nothing keeps pods off it any more."""
    node = system.json("get", "node", LOST)
    ready = {each["type"]: each["status"] for each in node["status"]["conditions"]}["Ready"]
    return ready == "True" and not node["spec"].get("taints")


def saved(job: Document) -> int:
    return int(job["status"].get("checkpoint", {}).get("step", 0))


def log_of(pod: Document) -> str:
    """What a container has logged, read on its node: no kubelet is asked."""
    metadata = pod["metadata"]
    folder = paths_from_environment(os.environ).state / "nodes" / LOST / "log-pods"
    name = f"{metadata['namespace']}_{metadata['name']}_{metadata['uid']}"
    return (folder / name / "trainer" / "0.log").read_text()


def begun(jobs: Jobs, system: Kubectl, name: str, spec: Document) -> Document:
    """The pod of a job's first attempt, on the node that will be lost; the other nodes are open again."""
    jobs.create(name, spec)
    jobs.until(name, lambda job: phase(job) == "Running", 180)
    system("uncordon", "n1", "n2")
    (pod,) = jobs.pods(name)
    assert pod["spec"]["nodeName"] == LOST
    return pod


@pytest.mark.usefixtures("others_closed")
@pytest.mark.parametrize("fault", ["kill-node", "partition-node"])
def test_a_job_goes_on_elsewhere_at_once_when_its_node_is_given_up(
    jobs: Jobs, system: Kubectl, tiny_inputs: Document, fault: str
) -> None:
    pod = begun(jobs, system, fault, long_training(tiny_inputs, maxSteps=1500))
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


@pytest.mark.usefixtures("others_closed")
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
    gpus = {"nvidia.com/gpu": GPUS}
    container = {"name": "urgent", "image": jobs.base_image, "command": ["sleep", "600"], "resources": {"limits": gpus}}
    spec = {"containers": [container], "priorityClassName": name, "nodeSelector": {"kubernetes.io/hostname": LOST}}
    metadata = {"name": "urgent"}
    jobs.kubectl("create", "-f", "-", document={"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    yield
    jobs.kubectl("delete", "pod", "urgent", "--force", "--grace-period=0")
    system("delete", "priorityclass", name)


@pytest.mark.usefixtures("others_closed")
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
    waits = jobs.own("sh", "-c", FIRST_WAITS_TO_BE_STOPPED, resources={"gpusPerNode": GPUS}, retry={"maxAttempts": 1})
    begun(jobs, system, name, waits)

    with happens(jobs, system):
        job = jobs.finished(name, seconds=180)

    assert phase(job) == "Succeeded", job["status"]
    first, second = job["status"]["attempts"]
    assert (first["reason"], second["reason"]) == ("Disrupted", "Completed")
    assert said in first["message"]
    assert second["node"] != LOST
    assert job["status"]["attemptCounters"].get("failed", 0) == 0


@pytest.mark.usefixtures("others_closed")
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
