"""As many workers as there is work: the scaler, and the autoscaler that it tells."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from perdure_control.factory import start_workflow
from tests.cluster.commands import install, temporal_address, told
from tests.cluster.conftest import SYSTEM, Document, Jobs, Kubectl, phase, training_job, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.timeout(600)]

LEAST, MOST = 1, 2
BURST = 8
SCALE_DOWN = timedelta(seconds=15)
VALUES = {
    "scaler.enabled": True,
    "scaler.holdSeconds": 5,
    "worker.autoscaling.enabled": True,
    "worker.autoscaling.minReplicas": LEAST,
    "worker.autoscaling.maxReplicas": MOST,
    "worker.autoscaling.targetDemand": 4,
    "worker.autoscaling.scaleDownSeconds": int(SCALE_DOWN.total_seconds()),
}
DEMAND = (
    f"/apis/external.metrics.k8s.io/v1beta1/namespaces/{SYSTEM}/perdure_task_queue_demand"
    "?labelSelector=queue%3Dperdure-cpu"
)


@pytest.fixture(scope="module")
def scaled(system: Kubectl) -> Iterator[None]:
    """The installation with an autoscaler, which has none again afterwards."""
    install(*(f"--set={name}={json.dumps(value)}" for name, value in VALUES.items()))
    try:
        wait_until(lambda: demand(system) == 0, 60, lambda: f"the demand is {asked(system)}")
        wait_until(lambda: replicas(system) == LEAST, 90, lambda: f"{replicas(system)} workers for nothing")
        yield
    finally:
        install()
        system("rollout", "status", "deployment/perdure-worker", "--timeout=120s")


def asked(system: Kubectl) -> str:
    """What the cluster's API says of the demand, be it an error."""
    result = system.run("get", "--raw", DEMAND)
    return result.stdout or result.stderr


def demand(system: Kubectl) -> int | None:
    """The demand as an autoscaler sees it; None: it is not known."""
    said = asked(system)
    if not said.startswith("{"):
        return None
    (item,) = json.loads(said)["items"]
    return int(item["value"])


def known_to_each(system: Kubectl) -> list[float]:
    """Whether each replica of the scaler knows the demand."""
    return _told_of(system, "perdure_task_queue_demand_known")


def told_by_each(system: Kubectl) -> list[float]:
    """The demand as each replica of the scaler tells it to Prometheus."""
    return _told_of(system, "perdure_task_queue_demand")


def _told_of(system: Kubectl, metric: str) -> list[float]:
    page = told(system, "scaler", "/metrics")
    return [float(value) for value in re.findall(rf'^{metric}{{queue="perdure-cpu".*}} (\S+)$', page, re.MULTILINE)]


def replicas(system: Kubectl) -> int:
    """As many workers as there shall be."""
    return int(system.json("get", "deployment", "perdure-worker")["spec"]["replicas"])


@contextmanager
def held_up(jobs: Jobs) -> Iterator[None]:
    """Whoever makes a TrainingJob in this namespace waits for the end of the block.

    By a webhook that accepts and never answers. It must end within 30 s: then the API server passes it over.
    """
    name = jobs.kubectl.namespace
    with socket.create_server(("127.0.0.1", 0), backlog=128) as silent:
        webhook = {
            "name": "held-up.tests.invalid",
            "clientConfig": {"url": f"https://127.0.0.1:{silent.getsockname()[1]}/"},
            "rules": [
                {
                    "apiGroups": ["perdure.dev"],
                    "apiVersions": ["*"],
                    "operations": ["CREATE"],
                    "resources": ["trainingjobs"],
                }
            ],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
            "failurePolicy": "Ignore",
            "timeoutSeconds": 30,
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
        metadata = {"name": f"held-up-{name}"}
        kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration"}
        jobs.kubectl("create", "-f", "-", document={**kind, "metadata": metadata, "webhooks": [webhook]})
        try:
            wait_until(lambda: not _can_be_made(jobs), 15, lambda: "the API server does not ask the webhook")
            yield
        finally:
            jobs.kubectl("delete", "validatingwebhookconfiguration", metadata["name"])


def _can_be_made(jobs: Jobs) -> bool:
    """Whether the API server takes a TrainingJob within a second."""
    probe = training_job("probe", jobs.own("true"))
    return not jobs.kubectl.run(
        "create", "--dry-run=server", "--request-timeout=1s", "-f", "-", document=probe
    ).returncode


def fine_tune(system: Kubectl, jobs: Jobs, name: str, count: int) -> list[str]:
    """The names of jobs that workflows make: each is a task of the workers' queue until its object is there."""
    names = [f"{name}-{number}" for number in range(count)]

    async def start() -> None:
        client = await Client.connect(temporal_address(system), data_converter=pydantic_data_converter)
        for each in names:
            wish = {"namespace": jobs.kubectl.namespace, "name": each, "spec": jobs.own("true")}
            await start_workflow(client, "fine_tune", wish)

    asyncio.run(start())
    return names


def all_ended_well(jobs: Jobs, names: list[str]) -> None:
    for name in names:
        job = jobs.until(name, lambda job: phase(job) in {"Succeeded", "Failed"}, 180)
        assert phase(job) == "Succeeded", job["status"]
        assert len(job["status"]["attempts"]) == 1
        assert len(jobs.pods(name)) == 1


def made(jobs: Jobs, names: list[str]) -> bool:
    there = {job["metadata"]["name"] for job in jobs.kubectl.items("trainingjobs")}
    return there.issuperset(names)


def autoscaler(system: Kubectl, type_: str) -> Document:
    conditions = system.json("get", "horizontalpodautoscaler", "perdure-worker")["status"]["conditions"]
    found = [each for each in conditions if each["type"] == type_]
    return dict(found[0]) if found else {}


def test_both_replicas_of_the_scaler_tell_the_same(system: Kubectl, jobs: Jobs, scaled: None) -> None:
    wait_until(lambda: known_to_each(system) == [1, 1], 30, lambda: f"known: {known_to_each(system)}")

    with held_up(jobs):
        names = fine_tune(system, jobs, "same", 3)
        wait_until(lambda: told_by_each(system) == [3, 3], 28, lambda: f"they tell {told_by_each(system)}")
        assert demand(system) == 3
    wait_until(lambda: told_by_each(system) == [0, 0], 60, lambda: f"they tell {told_by_each(system)}")
    all_ended_well(jobs, names)


def test_a_burst_brings_a_worker_a_pause_takes_it_away_and_no_task_is_lost_or_done_twice(
    system: Kubectl, jobs: Jobs, scaled: None
) -> None:
    with held_up(jobs):
        names = fine_tune(system, jobs, "burst", BURST)
        wait_until(lambda: replicas(system) == MOST, 28, lambda: f"{replicas(system)} workers for {asked(system)}")
    wait_until(lambda: made(jobs, names), 60, lambda: "not all jobs are made")

    all_ended_well(jobs, names)
    wait_until(lambda: replicas(system) == LEAST, 90, lambda: f"{replicas(system)} workers for {asked(system)}")


def test_while_temporal_is_away_the_demand_is_unknown_and_workers_stay_as_many_as_they_are(
    system: Kubectl, jobs: Jobs, scaled: None
) -> None:
    with held_up(jobs):
        names = fine_tune(system, jobs, "away", BURST)
        wait_until(lambda: replicas(system) == MOST, 28, lambda: f"{replicas(system)} workers for {asked(system)}")
    wait_until(lambda: made(jobs, names), 60, lambda: "not all jobs are made")
    system("scale", "statefulset/perdure-temporal", "--replicas=0")
    try:
        wait_until(lambda: demand(system) is None, 60, lambda: f"the demand is {asked(system)}")
        unknown_since = datetime.now(UTC)
        assert "is not known" in asked(system)
        wait_until(
            lambda: autoscaler(system, "ScalingActive").get("status") == "False", 30, lambda: "it has not noticed"
        )
        wait_until(lambda: datetime.now(UTC) - unknown_since > 2 * SCALE_DOWN, 60, lambda: "the clock stands still")
        assert replicas(system) == MOST
        assert known_to_each(system) == [0, 0]
        assert told_by_each(system) == []
    finally:
        system("scale", "statefulset/perdure-temporal", "--replicas=1")
    system("rollout", "status", "statefulset/perdure-temporal", "--timeout=60s")

    all_ended_well(jobs, names)
    wait_until(lambda: demand(system) == 0, 60, lambda: f"the demand is {asked(system)}")
    wait_until(lambda: replicas(system) == LEAST, 90, lambda: f"{replicas(system)} workers for {asked(system)}")
