"""Whatever dies on the way, the job ends as if nothing had happened."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from perdure_api.uri import parse_uri
from perdure_data.stores import Stores
from tests.cluster.commands import devcluster
from tests.cluster.conftest import Document, Jobs, Kubectl, condition, kill_pods, phase, step, wait_until
from tests.cluster.stores import bad_store, store_gone
from tests.cluster.watches import watching_pods
from tests.cluster.wishes import long_training

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def restart_api_server() -> None:
    devcluster("kill-component", "kube-apiserver")
    devcluster("start-component", "kube-apiserver")


@pytest.mark.alone
def test_one_job_outlives_operator_workers_its_own_pod_temporal_and_the_api_server(
    jobs: Jobs, system: Kubectl, tiny_inputs: Document, stores: Stores
) -> None:
    faults: list[Callable[[], None]] = [
        lambda: kill_pods(system, "operator"),
        lambda: kill_pods(system, "worker"),
        lambda: (
            jobs.kubectl("delete", "pod", "-l", "perdure.dev/trainingjob=outlives", "--force", "--grace-period=0")
            and None
        ),
        lambda: kill_pods(system, "temporal"),
        restart_api_server,
    ]
    with watching_pods(jobs.kubectl) as log:
        jobs.create("outlives", long_training(tiny_inputs))
        for number, fault in enumerate(faults):
            jobs.until("outlives", lambda job: phase(job) == "Running" and step(job) > 0)
            reached = step(jobs.get("outlives"))
            fault()
            if number < len(faults) - 1:
                wait_until(
                    lambda reached=reached: _newer(jobs, reached),
                    120,
                    lambda: f"no progress after fault {number}",  # type: ignore[misc] # noqa: B023
                )
        job = jobs.finished("outlives", seconds=300)

    assert condition(job, "Succeeded")["status"] == "True", job["status"]
    attempts = job["status"]["attempts"]
    assert [attempt["reason"] for attempt in attempts] == ["Disrupted", "Completed"]
    assert attempts[1]["fromStep"] > 0
    assert log.most_at_once["outlives"] == 1
    assert len(log.seen["outlives"]) == 2
    assert stores.head(parse_uri(f"{job['status']['result']['adapterUri']}/adapter_model.safetensors")).size_bytes > 0


def _newer(jobs: Jobs, step_before: int) -> bool:
    """Whether the job was told of again; a new attempt may begin lower than the last one came."""
    result = jobs.kubectl.run("get", "trainingjob", "outlives", "-o", "json")
    if result.returncode != 0:
        return False
    return step(json.loads(result.stdout)) != step_before


def test_a_newest_checkpoint_that_was_cut_in_half_costs_the_steps_since_the_one_before(
    jobs: Jobs, tiny_inputs: Document, stores: Stores
) -> None:
    spec = {**long_training(tiny_inputs, maxSteps=1200), "retry": {"initialIntervalSeconds": 10}}
    jobs.create("cut", {**spec, "checkpoint": {"everySteps": 50}})
    jobs.until("cut", lambda job: step(job) > 100)
    [pod] = jobs.pods("cut")
    # Told to end, the trainer saves once more; the next attempt comes after the pause.
    terminate = "import os, signal; os.kill(1, signal.SIGTERM)"
    jobs.kubectl("exec", pod["metadata"]["name"], "--", "python3", "-c", terminate)
    job = jobs.until("cut", lambda job: phase(job) == "Retrying")
    newest = job["status"]["checkpoint"]
    payload = parse_uri(f"{newest['uri']}/optimizer.safetensors")
    content = stores.read(payload, limit_bytes=2**24)
    stores.put(payload, content[: len(content) // 2])

    job = jobs.finished("cut", seconds=240)

    assert job["status"]["phase"] == "Succeeded", job["status"]
    assert 0 < job["status"]["attempts"][1]["fromStep"] < newest["step"]
    told = jobs.kubectl("describe", "trainingjob", "cut")
    assert "CheckpointBroken" in told
    assert f"the checkpoint of step {newest['step']} is not used: optimizer.safetensors is not what was written" in told


@pytest.mark.alone
def test_a_deleted_job_is_gone_with_everything_of_it_in_thirty_seconds(
    jobs: Jobs, system: Kubectl, tiny_inputs: Document
) -> None:
    since = time.time()
    jobs.create("deleted", long_training(tiny_inputs))
    job = jobs.until("deleted", lambda job: phase(job) == "Running" and step(job) > 0)

    jobs.kubectl("delete", "trainingjob", "deleted", "--wait=false")

    selector = f"perdure.dev/trainingjob-uid={job['metadata']['uid']}"

    def nothing_left() -> bool:
        there = jobs.kubectl.run("get", "trainingjob", "deleted").returncode == 0
        return not there and not jobs.kubectl.items("jobs,pods,services", "-l", selector)

    wait_until(nothing_left, 30, lambda: str(jobs.kubectl.items("jobs,pods", "-l", selector))[:2000])
    assert errors_logged(system, since) == []


def errors_logged(system: Kubectl, since: float) -> list[str]:
    seconds = max(1, int(time.time() - since))
    lines = [
        line
        for component in ("operator", "worker")
        for line in system(
            "logs", "-l", f"app.kubernetes.io/component={component}", f"--since={seconds}s", "--tail=-1"
        ).splitlines()
    ]
    return [line for line in lines if json.loads(line).get("level") in {"error", "critical"}]


@pytest.mark.parametrize("stage", ["at once", "while checking", "while pending", "while backing off", "when finished"])
def test_a_job_can_be_deleted_at_every_stage(jobs: Jobs, tiny_inputs: Document, stage: str) -> None:
    name = stage.replace(" ", "-")
    shell = ("sh", "-c")
    specs: dict[str, tuple[Document, Callable[[Document], bool]]] = {
        "at once": (jobs.own("sleep", "60"), lambda _: True),
        "while checking": (tiny_inputs, lambda job: condition(job, "DatasetReady") != {}),
        "while pending": (jobs.own("true", resources={"gpusPerNode": 64}), lambda job: phase(job) == "Starting"),
        "while backing off": (
            jobs.own(*shell, "exit 1", retry={"initialIntervalSeconds": 300}),
            lambda job: phase(job) == "Retrying",
        ),
        "when finished": (jobs.own("true"), lambda job: phase(job) == "Succeeded"),
    }
    spec, reached = specs[stage]
    jobs.create(name, spec)
    job = jobs.until(name, reached)

    jobs.kubectl("delete", "trainingjob", name, "--timeout=40s")

    selector = f"perdure.dev/trainingjob-uid={job['metadata']['uid']}"
    wait_until(lambda: not jobs.kubectl.items("jobs,pods", "-l", selector), 30, lambda: "something of it stayed")


def test_a_namespace_that_is_deleted_mid_run_is_gone_soon(jobs: Jobs, system: Kubectl) -> None:
    kubectl = Kubectl(system.kubeconfig, f"{jobs.kubectl.namespace}-gone")
    kubectl("create", "namespace", kubectl.namespace)
    there = Jobs(kubectl, jobs.base_image)
    there.create("runs", there.own("sleep", "600"))
    there.until("runs", lambda job: phase(job) == "Running")

    kubectl("delete", "namespace", kubectl.namespace, "--timeout=60s")


@pytest.mark.alone
def test_a_store_that_is_away_for_a_while_is_waited_for(jobs: Jobs, system: Kubectl, tiny_inputs: Document) -> None:
    with store_gone(system):
        jobs.create("patient", tiny_inputs)
        told = jobs.until("patient", lambda job: job["status"].get("reason") == "StoreUnavailable")
    job = jobs.finished("patient", seconds=240)

    assert condition(told, "DatasetReady")["status"] == "Unknown"
    assert job["status"]["phase"] == "Succeeded", job["status"]
    assert len(job["status"]["attempts"]) == 1


@pytest.mark.alone
def test_a_store_that_answers_503_for_a_minute_costs_neither_a_new_job_nor_one_that_trains(
    jobs: Jobs, system: Kubectl, tiny_inputs: Document
) -> None:
    jobs.create("trains", long_training(tiny_inputs))
    jobs.until("trains", lambda job: step(job) > 0)

    with bad_store(system, jobs.base_image, "answers 503"):
        begin = time.monotonic()
        jobs.create("new", tiny_inputs)
        told = jobs.until(
            "new", lambda job: job["status"].get("reason") == "StoreUnavailable" and "503" in job["status"]["message"]
        )
        wait_until(lambda: time.monotonic() - begin > 60, 70, lambda: "a minute")
    ends = [jobs.finished(name, seconds=240)["status"] for name in ("new", "trains")]

    assert condition(told, "DatasetReady")["status"] == "Unknown"
    assert [status["phase"] for status in ends] == ["Succeeded", "Succeeded"], ends
    assert [len(status["attempts"]) for status in ends] == [1, 1]


@pytest.mark.alone
def test_two_hundred_jobs_at_once_all_succeed_each_with_exactly_one_pod(jobs: Jobs, system: Kubectl) -> None:
    kubectl = Kubectl(system.kubeconfig, f"{jobs.kubectl.namespace}-burst")
    kubectl("create", "namespace", kubectl.namespace)
    there = Jobs(kubectl, jobs.base_image)
    documents = [
        {
            "apiVersion": "perdure.dev/v1alpha1",
            "kind": "TrainingJob",
            "metadata": {"name": f"j-{n}"},
            "spec": there.own("true"),
        }
        for n in range(200)
    ]
    with watching_pods(kubectl) as log:
        kubectl("create", "-f", "-", document={"apiVersion": "v1", "kind": "List", "items": documents})

        def all_finished() -> bool:
            return all(phase(job) in {"Succeeded", "Failed"} for job in kubectl.items("trainingjobs"))

        wait_until(all_finished, 480, lambda: str([phase(job) for job in kubectl.items("trainingjobs")]))

    jobs_after = kubectl.items("trainingjobs")
    assert {phase(job) for job in jobs_after} == {"Succeeded"}
    assert {len(pods) for pods in log.seen.values()} == {1}
    assert len(log.seen) == 200
    kubectl("delete", "namespace", kubectl.namespace, "--wait=false")


def test_kubectl_wait_sees_the_end(jobs: Jobs) -> None:
    jobs.create("waited-for", jobs.own("sleep", "2"))

    jobs.kubectl("wait", "--for=condition=Succeeded", "trainingjob/waited-for", "--timeout=60s")


@pytest.mark.alone
def test_a_finished_job_does_not_start_again_whatever_is_deleted_around_it(jobs: Jobs, system: Kubectl) -> None:
    jobs.create("once", jobs.own("true"))
    before = jobs.finished("once")

    jobs.kubectl("delete", "job", "once-1")
    kill_pods(system, "operator")
    system("rollout", "status", "deployment/perdure-operator", "--timeout=60s")
    jobs.create("after", jobs.own("true"))
    jobs.finished("after")

    assert jobs.get("once")["status"] == before["status"]
    assert jobs.kubectl.items("jobs", "-l", "perdure.dev/trainingjob=once") == []
