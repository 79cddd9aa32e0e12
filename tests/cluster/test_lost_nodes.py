"""Nodes that are lost, or only seem so: what still runs there does no harm, and nobody waits for it without need."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from perdure_api.uri import parse_uri
from perdure_data.stores import Stores
from perdure_devcluster.paths import paths_from_environment
from tests.cluster.conftest import Document, Jobs, Kubectl, condition, phase, wait_until
from tests.cluster.test_resilience import devcluster, long_training, watching_pods

pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.timeout(600)]

LOST = "n3"
"""Nothing of the installation is on it."""


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
    system("wait", "--for=condition=Ready", f"node/{LOST}", "--timeout=60s")


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
    pod = begun(jobs, system, "zombie", long_training(tiny_inputs, maxSteps=6000))
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
