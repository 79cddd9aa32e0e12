"""Nodes that are lost, or only seem so: what still runs there does no harm, and nobody waits for it without need."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from perdure_api.uri import parse_uri
from perdure_data.stores import Stores
from perdure_devcluster.paths import paths_from_environment
from tests.chaos.witness import Attempt, trainer_processes
from tests.cluster.commands import devcluster
from tests.cluster.conftest import Document, Jobs, Kubectl, condition, phase, wait_until
from tests.cluster.spare_nodes import BREAKS as NODES
from tests.cluster.spare_nodes import spare_nodes
from tests.cluster.watches import watching_pods
from tests.cluster.wishes import long_training

pytestmark = [pytest.mark.cluster, pytest.mark.early, pytest.mark.timeout(900)]

LOST = NODES.first


@pytest.fixture(scope="module")
def spare(jobs: Jobs, system: Kubectl) -> Iterator[None]:
    with spare_nodes(NODES, jobs, system):
        yield


@pytest.fixture(autouse=True)
def _mended(spare: None, system: Kubectl) -> Iterator[None]:
    yield
    NODES.mend(system)


def saved(job: Document) -> int:
    return int(job["status"].get("checkpoint", {}).get("step", 0))


def running(job: Document, attempt: int) -> bool:
    """Whether the machine has processes of an attempt, on whichever of its nodes."""
    wanted = Attempt(job["metadata"]["uid"], attempt)
    return any(process.attempt == wanted for process in trainer_processes())


def is_being_removed(jobs: Jobs, name: str) -> bool:
    return any("deletionTimestamp" in pod["metadata"] for pod in jobs.pods(name))


def log_of(pod: Document) -> str:
    """What a container has logged, read on its node: no kubelet is asked."""
    metadata = pod["metadata"]
    folder = paths_from_environment(os.environ).state / "nodes" / LOST / "log-pods"
    name = f"{metadata['namespace']}_{metadata['name']}_{metadata['uid']}"
    return (folder / name / "trainer" / "0.log").read_text()


@pytest.mark.parametrize("fault", ["kill-node", "partition-node"])
def test_a_job_goes_on_elsewhere_at_once_when_its_node_is_given_up(
    jobs: Jobs, system: Kubectl, tiny_inputs: Document, fault: str
) -> None:
    pod = NODES.begin_on_first(jobs, system, fault, long_training(tiny_inputs, maxSteps=1000))
    jobs.until(fault, lambda job: saved(job) > 0)

    devcluster(fault, LOST)
    job = jobs.finished(fault, seconds=480)

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
    NODES.begin_on_first(jobs, system, "restarts", jobs.own("sh", "-c", once, retry={"maxAttempts": 1}))

    devcluster("kill-node", LOST)
    devcluster("start-node", LOST)
    job = jobs.finished("restarts", seconds=180)

    assert phase(job) == "Succeeded", job["status"]
    assert [attempt["reason"] for attempt in job["status"]["attempts"]] == ["Disrupted", "Completed"]
    assert job["status"]["attemptCounters"]["failed"] == 0


def test_a_trainer_whose_kubelet_died_trains_on_and_stops_when_it_finds_that_another_has_taken_over(
    jobs: Jobs, system: Kubectl, tiny_inputs: Document, stores: Stores
) -> None:
    pod = NODES.begin_on_first(jobs, system, "zombie", long_training(tiny_inputs, maxSteps=2500))
    jobs.until("zombie", lambda job: saved(job) > 0)

    devcluster("kill-component", f"{LOST}/kubelet")
    taken_over = "attempt 2 has taken over; attempt 1 ends without a trace"
    wait_until(lambda: taken_over in log_of(pod), 120, lambda: log_of(pod)[-2000:])
    job = jobs.finished("zombie", seconds=480)

    assert phase(job) == "Succeeded", job["status"]
    assert [attempt["reason"] for attempt in job["status"]["attempts"]] == ["Disrupted", "Completed"]
    assert "/attempts/2/" in job["status"]["result"]["adapterUri"]
    first_attempt = parse_uri(job["status"]["result"]["adapterUri"]).parent.parent.child("1")
    assert not [info.uri for info in stores.list_objects(first_attempt.child("adapter"))]


def test_a_trainer_on_a_node_that_was_cut_off_ends_when_the_node_is_back_and_changes_nothing(
    jobs: Jobs, system: Kubectl, tiny_inputs: Document, stores: Stores
) -> None:
    NODES.begin_on_first(jobs, system, "cut-off", long_training(tiny_inputs, maxSteps=4000))
    jobs.until("cut-off", lambda job: saved(job) > 0)

    devcluster("partition-node", LOST)
    job = jobs.until("cut-off", lambda job: len(job["status"]["attempts"]) == 2 and phase(job) == "Running", 180)
    assert running(job, 1), "it trains on, unseen"
    devcluster("heal-node", LOST)
    wait_until(lambda: not running(job, 1), 120, lambda: "it runs on")
    assert running(job, 2), "the other one is left alone"
    job = jobs.finished("cut-off", seconds=480)

    assert phase(job) == "Succeeded", job["status"]
    assert [attempt["reason"] for attempt in job["status"]["attempts"]] == ["Disrupted", "Completed"]
    adapter = parse_uri(job["status"]["result"]["adapterUri"])
    assert "/attempts/2/" in str(adapter)
    assert not stores.list_objects(adapter.parent.parent.child("1").child("adapter"))


def test_a_trainer_of_ones_own_is_waited_for_while_it_may_run(jobs: Jobs, system: Kubectl) -> None:
    first_lasts = '[ "$PERDURE_ATTEMPT" != 1 ] || sleep 600'
    with watching_pods(jobs.kubectl) as log:
        NODES.begin_on_first(jobs, system, "own", jobs.own("sh", "-c", first_lasts))

        devcluster("partition-node", LOST)
        jobs.until("own", lambda job: condition(job, "Running")["status"] == "Unknown")
        told = jobs.until("own", lambda job: "delete the node object" in job["status"].get("message", ""))
        devcluster("heal-node", LOST)
        job = jobs.finished("own", seconds=180)

    assert told["status"]["reason"] == "Disrupted"
    assert phase(job) == "Succeeded", job["status"]
    assert [attempt["reason"] for attempt in job["status"]["attempts"]] == ["Disrupted", "Completed"]
    assert log.most_at_once["own"] == 1


def test_a_job_whose_work_is_done_while_its_node_is_cut_off_is_not_run_again(jobs: Jobs, system: Kubectl) -> None:
    """skypilot#6133: it has succeeded, nobody could say so, and all is forgotten but that it is silent."""
    with watching_pods(jobs.kubectl) as log:
        pod = NODES.begin_on_first(jobs, system, "unheard", jobs.own("sleep", "15", retry={"maxAttempts": 1}))
        begun_job = jobs.get("unheard")

        devcluster("partition-node", LOST)
        wait_until(lambda: not running(begun_job, 1), 120, lambda: "its process goes on")
        told = jobs.until("unheard", lambda job: condition(job, "Running")["status"] != "True")
        devcluster("heal-node", LOST)
        job = jobs.finished("unheard", seconds=180)

    assert condition(told, "Succeeded")["status"] == "Unknown", "from silence nothing is concluded"
    assert phase(job) == "Succeeded", job["status"]
    assert [attempt["reason"] for attempt in job["status"]["attempts"]] == ["Completed"]
    assert log.seen["unheard"] == {pod["metadata"]["uid"]}


def test_a_node_that_cannot_start_a_pod_costs_an_attempt_and_not_the_job(jobs: Jobs, system: Kubectl) -> None:
    spec = jobs.own("true", deadlines={"startSeconds": 15}, retry={"maxAttempts": 4, "initialIntervalSeconds": 0})
    NODES.open(system, NODES.first)
    devcluster("kill-component", f"{NODES.first}/containerd")

    jobs.create("unstarted", NODES.asked_for(spec))
    # Without its runtime a kubelet does not let go of a pod either, and a trainer of one's own is waited for.
    wait_until(lambda: is_being_removed(jobs, "unstarted"), 120, lambda: str(jobs.get("unstarted")["status"]))
    devcluster("start-component", f"{NODES.first}/containerd")
    job = jobs.finished("unstarted", seconds=180)

    assert phase(job) == "Succeeded", job["status"]
    first = job["status"]["attempts"][0]
    assert first["message"].startswith("not running within deadlines.startSeconds: pod unstarted-1-0-"), first
    assert job["status"]["attempts"][-1]["reason"] == "Completed"
