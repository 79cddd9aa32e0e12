"""Who may speak to whom, as the chart has it."""

from __future__ import annotations

import json
from functools import cache

import pytest
import yaml

from perdure_workers.settings import WorkerSettings
from tests.chart.rendered import LEAST, NAMESPACE, Chart, Document, Values, merged, plain_environment, pod_templates

QUICK: Values = {
    "networkPolicies": {"enabled": True},
    "temporal": {"address": "", "quickStart": {"enabled": True}},
    "objectStore": {"quickStart": {"enabled": True, "secretKey": "a-secret-key"}},
    "scaler": {"enabled": True},
}
ELSEWHERE = [{"ipBlock": {"cidr": "192.0.2.0/24"}}]
EXTERNAL: Values = {"networkPolicies": {"enabled": True, "objectStore": {"to": ELSEWHERE}}}
DNS = yaml.safe_load("""
to:
  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}
    podSelector: {matchLabels: {k8s-app: kube-dns}}
ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
""")
API_SERVER = {"ports": [{"port": 443, "protocol": "TCP"}, {"port": 6443, "protocol": "TCP"}]}


@cache
def rendered(values: str) -> list[Document]:
    """The objects of these values, in JSON: several tests look at the same."""
    return Chart().documents(LEAST, json.loads(values))


def policies(values: Values) -> dict[str, Document]:
    """Specs of the release's policies by component."""
    found = [each for each in rendered(json.dumps(values)) if each["kind"] == "NetworkPolicy"]
    return {each["metadata"]["labels"]["app.kubernetes.io/component"]: each["spec"] for each in found}


def environment_of_workers(values: Values) -> dict[str, str]:
    template = pod_templates(rendered(json.dumps(values)))["Deployment/perdure-worker"]
    return plain_environment(template["spec"]["containers"][0])


def of_training(values: Values) -> list[Document]:
    """What the workers are told that training pods may reach."""
    rules: list[Document] = json.loads(environment_of_workers(values)["PERDURE_TRAINING_EGRESS"])
    return rules


def ours(component: str, port: int) -> Document:
    """A rule that lets out to pods of ours."""
    labels = {"name": "perdure", "instance": "perdure", "component": component}
    selector = {f"app.kubernetes.io/{key}": value for key, value in labels.items()}
    there = {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}}
    peer = {"namespaceSelector": there, "podSelector": {"matchLabels": selector}}
    return {"to": [peer], "ports": [{"port": port, "protocol": "TCP"}]}


def outside(port: int, to: object = None) -> Document:
    return {"ports": [{"port": port, "protocol": "TCP"}], **({"to": to} if to else {})}


def test_there_are_none_by_default(chart: Chart, everything: Values) -> None:
    assert "NetworkPolicy" not in chart.text(everything)
    assert "PERDURE_TRAINING_EGRESS" not in chart.text(everything)


def test_around_each_pod_of_ours_there_is_one_and_its_ports_are_the_pods() -> None:
    specs = policies(QUICK)
    templates = pod_templates(rendered(json.dumps(QUICK))).values()
    assert len(templates) == 5

    for template in templates:
        labels = template["metadata"]["labels"]
        (about,) = [spec for spec in specs.values() if spec["podSelector"]["matchLabels"].items() <= labels.items()]
        assert about["policyTypes"] == ["Ingress", "Egress"]
        (container,) = template["spec"]["containers"]
        listened = {port["containerPort"] for port in container["ports"]}
        assert {port["port"] for rule in about["ingress"] for port in rule["ports"]} <= listened


def test_training_pods_reach_dns_the_store_and_the_receiver_and_nothing_else() -> None:
    assert of_training(QUICK) == [DNS, ours("object-store", 8333), ours("worker", 8443)]
    assert of_training(EXTERNAL) == [DNS, outside(443, ELSEWHERE), ours("worker", 8443)]


def test_what_a_worker_is_told_it_understands() -> None:
    settings = WorkerSettings.from_environment({"PERDURE_NAMESPACE": NAMESPACE, **environment_of_workers(QUICK)})

    assert settings.training_egress == tuple(of_training(QUICK))


def test_further_destinations_are_added() -> None:
    rule = {"to": [{"ipBlock": {"cidr": "198.51.100.7/32"}}], "ports": [{"port": 443}]}
    values = merged(EXTERNAL, {"networkPolicies": {"extraEgress": {"training": [rule], "worker": [rule]}}})

    assert of_training(values)[-1] == rule
    assert policies(values)["worker"]["egress"][-1] == rule
    assert rule not in policies(values)["operator"]["egress"]


@pytest.mark.parametrize(
    ("endpoint", "ports", "expected"),
    [
        ("", [], [443]),
        ("https://s3.example.com", [], [443]),
        ("http://minio", [], [80]),
        ("http://minio:9000", [], [9000]),
        ("https://minio:9443/", [], [9443]),
        ("http://[2001:db8::9]:9000", [], [9000]),
        ("http://minio:80", [9000, 9001], [9000, 9001]),
    ],
)
def test_the_stores_port_is_that_of_its_endpoint_unless_it_is_given(
    endpoint: str, ports: list[int], expected: list[int]
) -> None:
    values = merged(
        EXTERNAL, {"objectStore": {"endpoint": endpoint}, "networkPolicies": {"objectStore": {"ports": ports}}}
    )
    rule = {"to": ELSEWHERE, "ports": [{"port": port, "protocol": "TCP"} for port in expected]}

    assert rule in of_training(values)
    assert rule in policies(values)["worker"]["egress"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, outside(7233)), ({"to": ELSEWHERE, "ports": [7234]}, outside(7234, ELSEWHERE))],
    ids=["by its address", "as given"],
)
def test_temporal_is_reached_at_the_port_of_its_address_unless_it_is_given(given: Values, expected: Document) -> None:
    values = merged(EXTERNAL, {"networkPolicies": {"temporal": given}, "scaler": {"enabled": True}})

    for component in ("operator", "worker", "scaler"):
        assert expected in policies(values)[component]["egress"]


def test_each_component_reaches_what_it_needs_and_no_more() -> None:
    everybody = [DNS, API_SERVER, ours("temporal", 7233)]

    assert {component: spec["egress"] for component, spec in policies(QUICK).items()} == {
        "operator": everybody,
        "worker": [*everybody, ours("object-store", 8333)],
        "scaler": everybody,
        "test": [DNS, API_SERVER],
        "temporal": [],
        "object-store": [],
    }


THAT_TRAIN: Document = {
    "namespaceSelector": {},
    "podSelector": {"matchExpressions": [{"key": "perdure.dev/trainingjob-uid", "operator": "Exists"}]},
}


def incoming(peers: list[Document], port: int) -> Document:
    return {"from": peers, "ports": [{"port": port, "protocol": "TCP"}]}


def test_each_component_is_reached_by_those_who_need_it_and_nobody_else() -> None:
    def peer(component: str) -> Document:
        (found,) = ours(component, 0)["to"]
        return dict(found)

    assert {component: spec["ingress"] for component, spec in policies(QUICK).items()} == {
        "operator": [],
        "worker": [incoming([THAT_TRAIN], 8443)],
        # The API server, whose address nobody knows; it shows a certificate.
        "scaler": [outside(8443)],
        "test": [],
        "temporal": [incoming([peer("operator"), peer("worker"), peer("scaler")], 7233)],
        "object-store": [incoming([peer("worker"), THAT_TRAIN], 8333)],
    }


def test_a_scaler_without_an_api_of_its_own_is_not_asked_by_the_api_server() -> None:
    values = merged(QUICK, {"worker": {"autoscaling": {"provider": "prometheus-adapter"}}})

    assert policies(values)["scaler"]["ingress"] == []


def test_metrics_are_read_by_those_who_are_named() -> None:
    prometheus = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    specs = policies(merged(QUICK, {"networkPolicies": {"monitoring": {"from": prometheus}}}))

    allowed = {component for component, spec in specs.items() if incoming(prometheus, 8080) in spec["ingress"]}
    assert allowed == {"operator", "worker", "scaler"}


def test_only_from_watched_namespaces_training_pods_are_let_in() -> None:
    specs = policies(merged(QUICK, {"watchNamespaces": ["team-a", "team-b"]}))
    watched = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["team-a", "team-b"]}
    expected = {**THAT_TRAIN, "namespaceSelector": {"matchExpressions": [watched]}}

    assert specs["worker"]["ingress"] == [incoming([expected], 8443)]
    assert specs["object-store"]["ingress"][0]["from"][-1] == expected


def test_who_else_reaches_a_quick_start_is_added() -> None:
    values = {"temporal": {"from": ELSEWHERE}, "objectStore": {"from": ELSEWHERE}}
    specs = policies(merged(QUICK, {"networkPolicies": values}))

    assert specs["temporal"]["ingress"][0]["from"][0] == ELSEWHERE[0]
    assert specs["object-store"]["ingress"][0]["from"][0] == ELSEWHERE[0]
