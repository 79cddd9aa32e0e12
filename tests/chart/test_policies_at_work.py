"""The chart's NetworkPolicies and those of jobs together, seen by packets: the development cluster's engine keeps them.

All pods are on one node. Beyond it is the machine, where API server, name server and registry are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest
import yaml

from perdure_api.spec import TrainingJobSpec
from perdure_api.workflow import JobRef
from perdure_devcluster import plan
from perdure_workers.manifests import PodDefaults, network_policy, training_job
from tests.chart.rendered import CHART, NAMESPACE, Chart, merged, plain_environment, pod_templates
from tests.devcluster.policy_network import GATEWAY, NEEDS, NODE, Network, network_of
from tests.devcluster.policy_world import objects

pytestmark = NEEDS

Document = dict[str, Any]
TEAM: Final = "team"
ADDRESSES: Final = {
    "operator": "198.18.120.2",
    "worker": "198.18.120.3",
    "scaler": "198.18.120.4",
    "temporal": "198.18.120.5",
    "object-store": "198.18.120.6",
    "rank 0": "198.18.120.10",
    "rank 1": "198.18.120.11",
    "another job": "198.18.120.12",
    "a bystander": "198.18.120.20",
    "the machine": plan.HOST_ADDRESS,
    "the node": GATEWAY,
}
API_SERVER, DNS, STORE, RECEIVER, TEMPORAL, METRICS, SCALER_API, ANY = 6443, 10053, 8333, 8443, 7233, 8080, 8443, 29500
SPEC: Final = TrainingJobSpec.from_wire({"trainer": {"image": "i", "command": ["true"]}}).completed()


def pod(name: str, namespace: str, labels: Document, containers: list[Document]) -> Document:
    return {
        "metadata": {"namespace": namespace, "name": name, "uid": name, "labels": labels},
        "spec": {"nodeName": NODE.name, "containers": containers},
        "status": {"phase": "Running", "podIP": ADDRESSES[name]},
    }


def job(uid: str) -> JobRef:
    return JobRef(namespace=TEAM, name=f"job-{uid}", uid=uid, generation=1)


def training_pod(name: str, uid: str) -> Document:
    template = training_job(job(uid), SPEC, 1, PodDefaults(trainer_image="t"))["spec"]["template"]
    return pod(name, TEAM, template["metadata"]["labels"], [])


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """With the development cluster's values."""
    values = merged(
        yaml.safe_load((CHART / "ci" / "devcluster-values.yaml").read_text()),
        {"networkPolicies": {"enabled": True}, "scaler": {"enabled": True}},
    )
    documents = Chart().documents(values)
    templates = pod_templates(documents)
    environment = plain_environment(templates["Deployment/perdure-worker"]["spec"]["containers"][0])
    egress = json.loads(environment["PERDURE_TRAINING_EGRESS"])
    ours = [
        pod(labels["app.kubernetes.io/component"], NAMESPACE, labels, template["spec"]["containers"])
        for template in templates.values()
        if (labels := template["metadata"]["labels"])
    ]
    theirs = [training_pod("rank 0", "1"), training_pod("rank 1", "1"), training_pod("another job", "2")]
    policies = [each for each in documents if each["kind"] == "NetworkPolicy"]
    policies += [network_policy(job(uid), egress) for uid in ("1", "2")]
    namespaces = {name: {"kubernetes.io/metadata.name": name} for name in (NAMESPACE, TEAM)}
    with network_of(address for name, address in ADDRESSES.items() if name != "the node") as made:
        everybody = [*ours, *theirs, pod("a bystander", TEAM, {}, [])]
        made.apply(objects(everybody, policies, namespaces=namespaces))
        yield made


@pytest.mark.parametrize(
    ("source", "to", "port"),
    [
        ("rank 0", "object-store", STORE),
        ("rank 0", "worker", RECEIVER),
        ("rank 0", "the machine", DNS),
        ("rank 0", "rank 1", ANY),
        ("rank 1", "rank 0", ANY),
        ("operator", "the machine", API_SERVER),
        ("operator", "the machine", DNS),
        ("operator", "temporal", TEMPORAL),
        ("worker", "the machine", API_SERVER),
        ("worker", "temporal", TEMPORAL),
        ("worker", "object-store", STORE),
        ("scaler", "the machine", API_SERVER),
        ("scaler", "temporal", TEMPORAL),
        ("the machine", "scaler", SCALER_API),
        ("the machine", "object-store", STORE),
        ("the machine", "temporal", TEMPORAL),
        ("the node", "operator", METRICS),
        ("the node", "rank 0", ANY),
        ("a bystander", "the machine", plan.REGISTRY_PORT),
    ],
)
def test_what_is_needed_is_open(network: Network, source: str, to: str, port: int) -> None:
    assert network.passes(ADDRESSES[source], ADDRESSES[to], port)


@pytest.mark.parametrize(
    ("source", "to", "port"),
    [
        ("rank 0", "the machine", API_SERVER),
        ("rank 0", "the machine", plan.REGISTRY_PORT),
        ("rank 0", "another job", ANY),
        ("rank 0", "a bystander", ANY),
        ("rank 0", "worker", METRICS),
        ("rank 0", "object-store", STORE + 1),
        ("rank 0", "temporal", TEMPORAL),
        ("rank 0", "operator", METRICS),
        ("rank 0", "scaler", SCALER_API),
        ("another job", "rank 1", ANY),
        ("a bystander", "rank 0", ANY),
        ("a bystander", "worker", RECEIVER),
        ("a bystander", "temporal", TEMPORAL),
        ("a bystander", "object-store", STORE),
        ("the machine", "rank 0", ANY),
        ("the machine", "worker", METRICS),
        ("worker", "rank 0", ANY),
        ("worker", "the machine", plan.REGISTRY_PORT),
        ("operator", "object-store", STORE),
        ("object-store", "the machine", DNS),
        ("temporal", "the machine", API_SERVER),
    ],
)
def test_what_is_not_needed_is_closed(network: Network, source: str, to: str, port: int) -> None:
    assert not network.passes(ADDRESSES[source], ADDRESSES[to], port)
