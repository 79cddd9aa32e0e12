"""What is counted of the API server's answers."""

from __future__ import annotations

import socket

import pytest
from kubernetes.aio.client import Configuration
from prometheus_client import CollectorRegistry

from perdure_control.cluster import EVENTS, JOBS, PODS, TOKEN_REVIEWS, Cluster, ClusterError
from perdure_control.requests import KubernetesRequests, resource_of
from perdure_control.statuses import TRAINING_JOBS
from tests.workers.small_cluster import JOB, SmallCluster, serving


@pytest.mark.parametrize(
    ("path", "resource"),
    [
        (PODS.path(), "pods"),
        (PODS.path("ns"), "pods"),
        (PODS.path("ns", "name"), "pods"),
        (JOBS.path("ns", "name"), "jobs"),
        (TRAINING_JOBS.path("ns", "name", "status"), "trainingjobs/status"),
        (TOKEN_REVIEWS.path(), "tokenreviews"),
        ("/api/v1/namespaces", "namespaces"),
        ("/api/v1/namespaces/pods", "namespaces"),
        (EVENTS.path("namespaces"), "events"),
    ],
)
def test_a_path_is_counted_by_its_resource_whatever_the_names_in_it(path: str, resource: str) -> None:
    assert resource_of(path) == resource


def count(registry: CollectorRegistry, method: str, resource: str, code: str) -> float | None:
    labels = {"method": method, "resource": resource, "code": code}
    return registry.get_sample_value("perdure_kubernetes_requests_total", labels)


async def test_every_answer_is_counted_by_what_came_of_the_request() -> None:
    registry = CollectorRegistry()
    async with serving(SmallCluster(), KubernetesRequests(registry).count) as cluster:
        await cluster.get(TRAINING_JOBS.path(JOB.namespace, JOB.name))
        for _ in range(2):
            with pytest.raises(ClusterError):
                await cluster.get(PODS.path("ns", "absent"))

    assert count(registry, "GET", "trainingjobs", "200") == 1
    assert count(registry, "GET", "pods", "404") == 2


async def test_that_there_was_no_answer_is_counted_too() -> None:
    registry = CollectorRegistry()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        configuration = Configuration(host=f"http://127.0.0.1:{nobody.getsockname()[1]}")
        async with Cluster(configuration, answered=KubernetesRequests(registry).count) as cluster:
            with pytest.raises(ClusterError):
                await cluster.get(PODS.path("ns", "name"))

    assert count(registry, "GET", "pods", "none") == 1
