"""Attempts that find no place: other resources, then fewer nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from perdure_api.pod import ResultDocument
from perdure_api.uri import parse_uri
from perdure_data.stores import Stores
from tests.cluster.conftest import Document, Jobs, Kubectl, condition, phase, step

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

ONE_POD_A_NODE = 3
"""Of the four GPUs that a node of the development cluster offers."""


@pytest.fixture
def close_node(system: Kubectl) -> Iterator[Callable[[str], None]]:
    """Closes nodes for new pods, until the test is over."""
    closed: list[str] = []

    def close(node: str) -> None:
        closed.append(node)
        system("cordon", node)

    yield close
    for node in closed:
        system("uncordon", node)


def events(jobs: Jobs, name: str, reason: str) -> list[str]:
    selector = f"--field-selector=involvedObject.name={name},reason={reason},involvedObject.kind=TrainingJob"
    return [event["message"] for event in jobs.kubectl.items("events", selector)]


def tokens(stores: Stores, job: Document) -> float:
    document = stores.read(parse_uri(job["status"]["result"]["resultUri"]), limit_bytes=2**20)
    return ResultDocument.model_validate_json(document).metrics["tokens"]


@pytest.mark.alone
def test_a_job_that_loses_one_of_two_nodes_goes_on_with_one_and_sees_each_sample_once(
    jobs: Jobs, tiny_inputs: Document, stores: Stores, close_node: Callable[[str], None]
) -> None:
    training = {"epochs": 60, "sequenceLength": 64, "learningRate": 0.001}
    shrinks: dict[str, Any] = {
        **tiny_inputs,
        "training": {**training, "batchSize": 2},
        "checkpoint": {"everySteps": 20},
        "resources": {"nodes": 2, "minNodes": 1, "gpusPerNode": ONE_POD_A_NODE},
        "deadlines": {"startSeconds": 30},
    }
    jobs.create("shrinks", shrinks)
    jobs.until("shrinks", lambda job: job["status"].get("checkpoint", {}).get("step", 0) > 0)
    (lost,) = [pod for pod in jobs.pods("shrinks") if pod["spec"]["nodeName"] == "n2"]
    close_node("n2")
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


@pytest.mark.alone
def test_a_job_with_one_of_two_nodes_goes_on_with_both_as_soon_as_there_is_room(
    jobs: Jobs, system: Kubectl, tiny_inputs: Document, close_node: Callable[[str], None]
) -> None:
    close_node("n2")
    grows: dict[str, Any] = {
        **tiny_inputs,
        "training": {"maxSteps": 2000, "sequenceLength": 64, "learningRate": 0.001, "batchSize": 2},
        "checkpoint": {"everySteps": 100},
        "resources": {"nodes": 2, "minNodes": 1, "regrow": True, "gpusPerNode": ONE_POD_A_NODE},
        "deadlines": {"startSeconds": 15},
    }
    jobs.create("grows", grows)
    jobs.until("grows", lambda job: step(job) > 0 and len(job["status"]["attempts"]) == 2)
    system("uncordon", "n2")
    job = jobs.finished("grows", seconds=300)

    assert phase(job) == "Succeeded", job["status"]
    attempts = job["status"]["attempts"]
    assert [attempt["reason"] for attempt in attempts] == ["NoCapacity", "Regrown", "Completed"]
    assert [attempt.get("nodes", 1) for attempt in attempts] == [2, 1, 2]
    assert attempts[2]["fromStep"] > 0
    assert job["status"]["attemptCounters"]["failed"] == 0
    assert any("there is room for all nodes" in message for message in events(jobs, "grows", "Regrown"))
    assert {pod["metadata"]["labels"]["perdure.dev/attempt"] for pod in jobs.pods("grows")} == {"3"}


def test_a_job_that_nowhere_fits_as_asked_takes_the_next_alternative(jobs: Jobs) -> None:
    jobs.create(
        "elsewhere",
        jobs.own(
            "true",
            resources={
                "nodeSelector": {"gpu": "none-such"},
                "alternatives": [{"gpusPerNode": 64}, {"nodeSelector": {}}],
            },
            deadlines={"startSeconds": 5},
        ),
    )
    job = jobs.finished("elsewhere")

    assert phase(job) == "Succeeded", job["status"]
    assert [attempt["reason"] for attempt in job["status"]["attempts"]] == ["NoCapacity", "NoCapacity", "Completed"]
    assert len(jobs.pods("elsewhere")) == 1, "what found no place is taken away"
    assert any("resources.alternatives[1]" in message for message in events(jobs, "elsewhere", "NoCapacity"))


def test_a_job_that_finds_no_place_anywhere_says_what_it_lacked(jobs: Jobs) -> None:
    jobs.create(
        "nowhere",
        jobs.own(
            "true",
            resources={"nodes": 2, "minNodes": 2, "gpusPerNode": 64, "alternatives": [{"gpusPerNode": 63}]},
            deadlines={"startSeconds": 5},
        ),
    )
    job = jobs.finished("nowhere")

    assert (phase(job), condition(job, "Succeeded")["reason"]) == ("Failed", "NoCapacity")
    assert "Insufficient nvidia.com/gpu" in job["status"]["message"]
    assert jobs.pods("nowhere") == []
