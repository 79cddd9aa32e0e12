"""What is done to a job from outside, past us: by hand, by other controllers, by Temporal's own tool."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.cluster.commands import temporal_workflow
from tests.cluster.conftest import Document, Jobs, Kubectl, condition, kill_pods, phase, wait_until
from tests.cluster.watches import PodLog, watching_pods
from tests.cluster.wishes import FIRST_WAITS_TO_BE_STOPPED, REPORT

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(420)]

QUICK = {"initialIntervalSeconds": 0}


def patched(spec: str) -> Callable[[Jobs, str], object]:
    return lambda jobs, name: jobs.kubectl("patch", "job", f"{name}-1", "--type=merge", "-p", f'{{"spec": {spec}}}')


def evict(jobs: Jobs, name: str) -> None:
    """What `kubectl drain` does to each pod of a node."""
    (pod,) = jobs.pods(name)
    metadata = {"name": pod["metadata"]["name"], "namespace": jobs.kubectl.namespace}
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
    path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/eviction"
    jobs.kubectl("create", "--raw", path, "-f", "-", document=eviction)


BY_HAND: dict[str, Callable[[Jobs, str], object]] = {
    "job-deleted": lambda jobs, name: jobs.kubectl("delete", "job", f"{name}-1", "--wait=false"),
    "job-deleted-without-its-pods": lambda jobs, name: jobs.kubectl(
        "delete", "job", f"{name}-1", "--cascade=orphan", "--wait=false"
    ),
    "job-suspended": patched('{"suspend": true}'),
    "job-without-pods": patched('{"parallelism": 0}'),
    "job-with-a-deadline": patched('{"activeDeadlineSeconds": 1}'),
    "pod-deleted": lambda jobs, name: jobs.kubectl(
        "delete", "pod", "-l", f"perdure.dev/trainingjob={name}", "--wait=false"
    ),
    "pod-evicted": evict,
}
"""What somebody does to the Job or the pod of a first attempt."""


@pytest.fixture(scope="module")
def disturbed(jobs: Jobs) -> Iterator[PodLog]:
    """All of them at once, each disturbed while it runs."""
    with watching_pods(jobs.kubectl) as log:
        for name in BY_HAND:
            jobs.create(name, jobs.own("sh", "-c", FIRST_WAITS_TO_BE_STOPPED, retry={"maxAttempts": 1}))
        for name, happens in BY_HAND.items():
            jobs.until(name, lambda job: phase(job) == "Running")
            happens(jobs, name)
        yield log


@pytest.mark.parametrize("name", BY_HAND)
def test_an_attempt_that_is_interfered_with_is_lost_does_not_count_and_the_next_one_begins(
    jobs: Jobs, disturbed: PodLog, name: str
) -> None:
    job = jobs.finished(name)

    assert phase(job) == "Succeeded", job["status"]
    first, second = job["status"]["attempts"]
    assert (first["reason"] in {"Disrupted", "JobDeleted"}, second["reason"]) == (True, "Completed"), first
    counters = job["status"]["attemptCounters"]
    assert (counters["started"], counters.get("failed", 0), counters["disrupted"]) == (2, 0, 1)
    assert disturbed.most_at_once[name] == 1


@contextmanager
def labelled_elsewhere(jobs: Jobs, name: str) -> Iterator[Kubectl]:
    """A namespace of somebody else's, with a pod and a Job that bear the labels of a job's attempts."""
    elsewhere = Kubectl(jobs.kubectl.kubeconfig, f"{jobs.kubectl.namespace}-elsewhere")
    (real,) = jobs.pods(name)
    kept = {key: value for key, value in real["metadata"]["labels"].items() if not key.startswith("batch.")}
    labels = {key: value for key, value in kept.items() if key not in {"controller-uid", "job-name"}}
    spec = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "trainer", "image": jobs.base_image, "command": ["sleep", "600"]}],
    }
    metadata = {"name": name, "labels": labels, "annotations": {"perdure.dev/trainingjob-name": name}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    newer = {**metadata, "name": f"{name}-9", "labels": {**labels, "perdure.dev/attempt": "9"}}
    suspended = {"suspend": True, "template": {"spec": spec}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": newer, "spec": suspended}
    elsewhere("create", "namespace", elsewhere.namespace)
    try:
        elsewhere("create", "-f", "-", document=pod)
        elsewhere("create", "-f", "-", document=job)
        wait_until(
            lambda: elsewhere.json("get", "pod", name)["status"]["phase"] == "Running", 60, lambda: "not running"
        )
        yield elsewhere
    finally:
        elsewhere("delete", "namespace", elsewhere.namespace, "--wait=false")


def test_what_bears_the_labels_of_an_attempt_in_another_namespace_does_nothing_to_it(jobs: Jobs) -> None:
    script = """
import time
answers = []
for percent in range(40):
    answers.append(report(progressPercentage=percent))
    time.sleep(1)
sys.exit(0 if set(answers) == {200} else 1)
"""
    jobs.create("copied", jobs.own("python3", "-c", f"{REPORT}\n{script}", retry={"maxAttempts": 1}))
    jobs.until("copied", lambda job: phase(job) == "Running")
    with labelled_elsewhere(jobs, "copied") as elsewhere:
        assert phase(jobs.get("copied")) == "Running"
        job = jobs.finished("copied")

        assert [attempt["reason"] for attempt in job["status"]["attempts"]] == ["Completed"], job["status"]
        assert elsewhere.json("get", "pod", "copied")["status"]["phase"] == "Running"


def test_a_pod_that_writes_more_than_it_may_ends_as_out_of_disk(jobs: Jobs) -> None:
    fill = 'test "$PERDURE_ATTEMPT" != 1 || { head -c 30000000 /dev/zero > /scratch/fill; exec sleep 600; }'
    jobs.create("fills", jobs.own("sh", "-c", fill, resources={"ephemeralStorage": "10Mi"}, retry=QUICK))

    job = jobs.finished("fills", seconds=180)

    assert phase(job) == "Succeeded", job["status"]
    first, second = job["status"]["attempts"]
    assert (first["reason"], second["reason"]) == ("OutOfDisk", "Completed")
    assert "raise spec.resources.ephemeralStorage" in first["message"]
    assert job["status"]["attemptCounters"]["failed"] == 1


def test_a_pod_that_was_taken_from_its_job_goes_with_the_trainingjob(jobs: Jobs) -> None:
    jobs.create("taken", jobs.own("sleep", "600"))
    jobs.until("taken", lambda job: phase(job) == "Running")
    selector = f"perdure.dev/trainingjob-uid={jobs.get('taken')['metadata']['uid']}"
    jobs.kubectl("delete", "job", "taken-1", "--cascade=orphan", "--wait=false")

    jobs.kubectl("delete", "trainingjob", "taken", "--timeout=60s")

    wait_until(lambda: not jobs.kubectl.items("pods", "-l", selector), 60, lambda: "a pod of it is left")


def test_a_job_restored_from_a_backup_runs_as_a_job_of_its_own(jobs: Jobs) -> None:
    jobs.create("restored", jobs.own("true"))
    backup = jobs.finished("restored")
    jobs.kubectl("delete", "trainingjob", "restored", "--timeout=40s")

    kept = {key: backup["metadata"][key] for key in ("name", "namespace", "uid", "finalizers", "annotations")}
    jobs.kubectl("create", "-f", "-", document={**backup, "metadata": kept})
    job = jobs.finished("restored")

    assert phase(job) == "Succeeded", job["status"]
    assert job["metadata"]["uid"] != backup["metadata"]["uid"]
    assert job["status"]["startTime"] >= backup["status"]["completionTime"]
    assert [attempt["number"] for attempt in job["status"]["attempts"]] == [1]
    assert len(jobs.pods("restored")) == 1


@contextmanager
def nobody_there(system: Kubectl, *components: str) -> Iterator[None]:
    """No operator, no workers, until the end of the block."""
    deployments = [f"deployment/perdure-{component}" for component in components]
    replicas = [int(system.json("get", deployment)["spec"]["replicas"]) for deployment in deployments]
    selector = f"app.kubernetes.io/component in ({','.join(components)})"
    try:
        system("scale", *deployments, "--replicas=0")
        wait_until(lambda: not system.items("pods", "-l", selector), 60, lambda: "still there")
        yield
    finally:
        for deployment, count in zip(deployments, replicas, strict=True):
            system("scale", deployment, f"--replicas={count}")
        for deployment in deployments:
            system("rollout", "status", deployment, "--timeout=120s")


@pytest.mark.alone
def test_a_job_that_ends_while_nobody_watches_is_not_run_again(jobs: Jobs, system: Kubectl) -> None:
    jobs.create("unwatched", jobs.own("sleep", "8"))
    jobs.until("unwatched", lambda job: phase(job) == "Running")

    with nobody_there(system, "operator", "worker"):
        wait_until(lambda: ended(jobs, "unwatched"), 60, lambda: "its pod goes on")
        assert condition(jobs.get("unwatched"), "Running")["status"] == "True", "nobody was there to say otherwise"
    job = jobs.finished("unwatched")

    assert [attempt["reason"] for attempt in job["status"]["attempts"]] == ["Completed"], job["status"]
    assert len(jobs.pods("unwatched")) == 1


def ended(jobs: Jobs, name: str) -> bool:
    return [pod["status"]["phase"] for pod in jobs.pods(name)] == ["Succeeded"]


@pytest.mark.alone
def test_a_job_whose_history_temporal_lost_is_told_anew_from_what_the_cluster_shows(
    jobs: Jobs, system: Kubectl
) -> None:
    script = 'test "$PERDURE_ATTEMPT" = 2 || exit 1; sleep 12'
    jobs.create("forgotten", jobs.own("sh", "-c", script, retry={"initialIntervalSeconds": 0}))
    job = jobs.until("forgotten", lambda job: phase(job) == "Running" and second_attempt(job))
    pods = {pod["metadata"]["uid"] for pod in jobs.pods("forgotten")}
    assert len(pods) == 2

    forget(system, job["status"]["workflow"]["id"])
    kill_pods(system, "operator")  # the next one sees at once what this one would see within a minute
    again = jobs.finished("forgotten")

    assert phase(again) == "Succeeded", again["status"]
    assert [attempt["reason"] for attempt in again["status"]["attempts"]] == ["Failed", "Completed"]
    assert again["status"]["attempts"][0] == job["status"]["attempts"][0], "what was told of the first one stays"
    assert again["status"]["startTime"] == job["status"]["startTime"]
    counters = again["status"]["attemptCounters"]
    assert (counters["started"], counters["failed"], counters.get("disrupted", 0)) == (2, 1, 0)
    events = jobs.kubectl.items("events", "--field-selector", "involvedObject.name=forgotten,reason=Recalled")
    assert [event["message"].rpartition("; ")[2] for event in events] == ["it goes on with attempt 2"]
    assert again["status"]["workflow"]["runId"] != job["status"]["workflow"]["runId"]
    assert {pod["metadata"]["uid"] for pod in jobs.pods("forgotten")} == pods, "no attempt is made twice"


@pytest.mark.alone
def test_an_attempt_whose_job_is_gone_when_temporal_lost_its_history_is_not_made_again(
    jobs: Jobs, system: Kubectl
) -> None:
    """The second attempt runs; the Job of the first is gone, and must not be made beside it."""
    script = 'test "$PERDURE_ATTEMPT" = 2 || exit 1; sleep 20'
    with watching_pods(jobs.kubectl) as log:
        jobs.create("half-forgotten", jobs.own("sh", "-c", script, retry={"initialIntervalSeconds": 0}))
        job = jobs.until("half-forgotten", lambda job: phase(job) == "Running" and second_attempt(job))
        jobs.kubectl("delete", "job", "half-forgotten-1")

        forget(system, job["status"]["workflow"]["id"])
        kill_pods(system, "operator")
        again = jobs.finished("half-forgotten")

        assert log.most_at_once["half-forgotten"] == 1
    assert phase(again) == "Succeeded", again["status"]
    assert [attempt["reason"] for attempt in again["status"]["attempts"]] == ["Failed", "Completed"]
    assert [pod["metadata"]["labels"]["perdure.dev/attempt"] for pod in jobs.pods("half-forgotten")] == ["2"]


def second_attempt(job: Document) -> bool:
    return len(job["status"]["attempts"]) == 2


def forget(system: Kubectl, workflow_id: str) -> None:
    """Temporal loses all that it knows of a workflow."""

    assert temporal_workflow(system, "delete", workflow_id, "--yes") == 0
    wait_until(lambda: temporal_workflow(system, "describe", workflow_id) != 0, 60, lambda: "it is remembered")
