"""What goes with a deleted job, what stays, and what its deletion waits for."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from perdure_api.uri import parse_uri
from perdure_data.stores import Stores
from tests.cluster.conftest import BUCKET, Document, Jobs, Kubectl, condition, phase, step, wait_until
from tests.cluster.stores import store_gone
from tests.cluster.wishes import long_training

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

TEMPORAL = "statefulset/perdure-temporal"
DELETES = {"deletionPolicy": "DeleteCheckpoints"}


def in_run(stores: Stores, job: Document) -> set[str]:
    """What the store holds of a job's run."""
    run = parse_uri(f"{BUCKET}/out/runs/{job['metadata']['uid']}")
    return {info.uri.path.removeprefix(f"{run.path}/") for info in stores.list_objects(run)}


def checkpoints(paths: set[str]) -> set[str]:
    return {path for path in paths if "/checkpoints/" in path}


def made(paths: set[str]) -> set[str]:
    """All that is neither a checkpoint nor kept to go on from."""
    return {path for path in paths if "/checkpoints/" not in path and not path.startswith("tokens/")}


def is_gone(jobs: Jobs, name: str) -> bool:
    return jobs.kubectl.run("get", "trainingjob", name).returncode != 0


def delete(jobs: Jobs, name: str, seconds: int = 60) -> None:
    jobs.kubectl("delete", "trainingjob", name, f"--timeout={seconds}s")


def test_the_checkpoints_of_a_finished_job_go_with_it_only_where_its_policy_says_so(
    jobs: Jobs, tiny_inputs: Document, stores: Stores
) -> None:
    for name, policy in (("keeps", {}), ("deletes", DELETES)):
        jobs.create(name, {**tiny_inputs, **policy})
    ended = {name: jobs.finished(name) for name in ("keeps", "deletes")}
    assert {phase(job) for job in ended.values()} == {"Succeeded"}, ended
    before = {name: in_run(stores, job) for name, job in ended.items()}
    assert all(checkpoints(paths) for paths in before.values())
    [attempt] = ended["deletes"]["status"]["attempts"]
    assert attempt["checkpointStep"] > 0

    for name in ended:
        delete(jobs, name)

    assert in_run(stores, ended["keeps"]) == before["keeps"]
    assert in_run(stores, ended["deletes"]) == made(before["deletes"])
    assert "attempts/1/adapter/adapter_model.safetensors" in made(before["deletes"])
    assert "attempts/1/result.json" in made(before["deletes"])


def test_the_policy_can_be_set_on_a_finished_job(jobs: Jobs, tiny_inputs: Document, stores: Stores) -> None:
    jobs.create("later", tiny_inputs)
    job = jobs.finished("later")

    jobs.kubectl("patch", "trainingjob", "later", "--type=merge", "-p", json.dumps({"spec": DELETES}))
    delete(jobs, "later")

    left = in_run(stores, job)
    assert checkpoints(left) == set()
    assert "attempts/1/adapter/adapter_model.safetensors" in left


def test_the_checkpoints_of_a_running_job_go_when_its_pod_has_ended(
    jobs: Jobs, tiny_inputs: Document, stores: Stores
) -> None:
    """Told to end, the trainer saves once more."""
    jobs.create("running", {**long_training(tiny_inputs), **DELETES})
    job = jobs.until("running", lambda job: step(job) > 0 and "checkpoint" in job["status"])

    delete(jobs, "running")

    left = in_run(stores, job)
    assert checkpoints(left) == set()
    assert left == made(left)
    selector = f"perdure.dev/trainingjob-uid={job['metadata']['uid']}"
    wait_until(lambda: not jobs.kubectl.items("jobs,pods", "-l", selector), 30, lambda: "something of it stayed")


@pytest.mark.alone
def test_a_deletion_waits_for_the_store_and_says_so_unless_it_is_forced(
    jobs: Jobs, system: Kubectl, tiny_inputs: Document, stores: Stores
) -> None:
    names = ("waits", "forced")
    for name in names:
        jobs.create(name, {**tiny_inputs, **DELETES})
    ended = {name: jobs.finished(name) for name in names}

    with store_gone(system):
        for name in names:
            jobs.kubectl("delete", "trainingjob", name, "--wait=false")
        for name in names:
            told = jobs.until(name, lambda job: condition(job, "Reconciling")["reason"] == "StoreUnavailable")
            assert phase(told) == "Succeeded"
        assert "perdure.dev/force-delete=true" in condition(told, "Reconciling")["message"]
        assert "the deletion waits until its checkpoints are deleted" in jobs.describe("waits")
        assert "StoreUnavailable" in jobs.warnings("waits")
        jobs.kubectl("annotate", "trainingjob", "forced", "perdure.dev/force-delete=true")
        wait_until(lambda: is_gone(jobs, "forced"), 20, lambda: "force did not help")
        assert not is_gone(jobs, "waits")

    wait_until(lambda: is_gone(jobs, "waits"), 180, lambda: str(jobs.get("waits")["status"]))
    for job in ended.values():
        wait_until(lambda job=job: not checkpoints(in_run(stores, job)), 120, lambda: "checkpoints are left")  # type: ignore[misc]
        assert "attempts/1/adapter/adapter_model.safetensors" in in_run(stores, job)


@contextmanager
def temporal_gone(system: Kubectl) -> Iterator[None]:
    system("scale", TEMPORAL, "--replicas=0")
    try:
        wait_until(
            lambda: not system.items("pods", "-l", "app.kubernetes.io/component=temporal"), 60, lambda: "still there"
        )
        yield
    finally:
        system("scale", TEMPORAL, "--replicas=1")
        system("rollout", "status", TEMPORAL, "--timeout=120s")


@pytest.mark.alone
def test_a_namespace_is_gone_in_thirty_seconds_even_while_temporal_is_away_and_its_workflows_end_later(
    jobs: Jobs, system: Kubectl, tiny_inputs: Document, stores: Stores
) -> None:
    kubectl = Kubectl(system.kubeconfig, f"{jobs.kubectl.namespace}-short")
    kubectl("create", "namespace", kubectl.namespace)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "perdure-object-store"},
        "data": system.json("get", "secret", "perdure-object-store")["data"],
    }
    kubectl("create", "-f", "-", document=secret)
    there = Jobs(kubectl, jobs.base_image)
    there.create("over", {**tiny_inputs, **DELETES})
    over = there.finished("over")
    until_told = 'trap "exit 143" TERM; sleep 3600 & wait'
    there.create("runs", there.own("sh", "-c", until_told))
    there.until("runs", lambda job: phase(job) == "Running")

    with temporal_gone(system):
        began = time.monotonic()
        kubectl("delete", "namespace", kubectl.namespace, "--timeout=60s")
        took = time.monotonic() - began

    assert took < 30
    wait_until(lambda: not checkpoints(in_run(stores, over)), 180, lambda: "the checkpoints are left")
    assert "attempts/1/adapter/adapter_model.safetensors" in in_run(stores, over)
