"""Versions of the workers: what the chart says of them, and what the operator makes of that."""

from __future__ import annotations

import pytest

from perdure_operator.settings import settings_from
from perdure_operator.worker_pattern import version_of
from perdure_workers.settings import WorkerSettings
from tests.chart.rendered import LEAST, NAMESPACE, Chart, Document, Refusal, Values, merged, plain_environment

ON: Values = {"worker": {"versioning": {"enabled": True}}}
PATTERN = "perdure-worker"


def pattern(chart: Chart, *values: Values) -> Document:
    return chart.one("Deployment", PATTERN, LEAST, *values)


def version(chart: Chart, *values: Values) -> Document:
    """The Deployment that the operator makes."""
    return version_of(merged(pattern(chart, ON, *values), {"metadata": {"uid": "its-uid"}}))


def build(chart: Chart, *values: Values) -> str:
    label: str = version(chart, *values)["metadata"]["labels"]["perdure.dev/build"]
    return label


def container(deployment: Document) -> Document:
    only: Document = deployment["spec"]["template"]["spec"]["containers"][0]
    return only


def test_by_default_there_are_none(chart: Chart) -> None:
    deployment = pattern(chart)
    operator = chart.one("Deployment", "perdure-operator", LEAST)

    assert deployment["spec"]["replicas"] == 2
    assert "annotations" not in deployment["metadata"]
    assert WorkerSettings.from_environment(plain_environment(container(deployment))).version is None
    assert "PERDURE_WORKER_PATTERN" not in plain_environment(container(operator))
    assert "deployments" not in str([each.get("rules") for each in chart.documents(LEAST)])


def test_the_installed_deployment_has_no_pods_and_those_of_versions_go_with_it(chart: Chart) -> None:
    made = version(chart)

    assert pattern(chart, ON)["spec"]["replicas"] == 0
    assert made["spec"]["replicas"] == 2
    assert made["metadata"]["ownerReferences"] == [
        {"apiVersion": "apps/v1", "kind": "Deployment", "name": PATTERN, "uid": "its-uid"}
    ]


def test_operator_and_workers_are_told_the_same_version(chart: Chart) -> None:
    operator = chart.one("Deployment", "perdure-operator", LEAST, ON)
    environment = {"PERDURE_NAMESPACE": NAMESPACE, **plain_environment(container(operator))}
    told = WorkerSettings.from_environment(plain_environment(container(version(chart)))).version

    assert settings_from(environment).worker_pattern == PATTERN
    assert told
    assert told.build_id == build(chart)


def test_another_image_is_another_version_and_other_settings_are_not(chart: Chart) -> None:
    one = build(chart)

    assert one.startswith("0.1.0-")
    assert build(chart, {"image": {"cpu": {"tag": "0.1.0-fixed"}}}) != one
    assert build(chart, {"worker": {"slots": 3, "replicas": 7}, "logLevel": "debug"}) == one
    assert build(chart, {"worker": {"versioning": {"build": "mine"}}}) == "mine"


def test_other_settings_change_the_deployment_of_the_same_version(chart: Chart) -> None:
    one, other = version(chart), version(chart, {"worker": {"slots": 3}})

    assert one["metadata"]["name"] == other["metadata"]["name"]
    assert one["metadata"]["annotations"] != other["metadata"]["annotations"]
    assert version(chart) == one


def test_workers_of_a_version_enter_temporal_like_the_operator(chart: Chart) -> None:
    tls = {"temporal": {"tls": {"enabled": True, "existingSecret": "client"}, "apiKey": {"existingSecret": "key"}}}
    operator, made = chart.one("Deployment", "perdure-operator", LEAST, ON, tls), version(chart, tls)

    for deployment in (operator, made):
        volumes = [each["secret"]["secretName"] for each in deployment["spec"]["template"]["spec"]["volumes"][-2:]]
        assert volumes == ["client", "key"]
    of_operator, of_version = plain_environment(container(operator)), plain_environment(container(made))
    entering = {name: value for name, value in of_operator.items() if "TEMPORAL" in name}
    assert len(entering) == 5
    assert entering.items() <= of_version.items()
    assert build(chart, tls) == build(chart)


def test_deployments_of_two_versions_share_neither_name_nor_pods(chart: Chart) -> None:
    one, other = version(chart), version(chart, {"worker": {"versioning": {"build": "other"}}})

    assert one["metadata"]["name"] != other["metadata"]["name"]
    for mine, foreign in ((one, other), (other, one)):
        selector = mine["spec"]["selector"]["matchLabels"].items()
        assert selector <= mine["spec"]["template"]["metadata"]["labels"].items()
        assert not selector <= foreign["spec"]["template"]["metadata"]["labels"].items()


def test_reports_of_training_pods_reach_workers_of_every_version(chart: Chart) -> None:
    service = chart.one("Service", "perdure-progress", LEAST, ON)["spec"]["selector"].items()

    for name in ("one", "other"):
        made = version(chart, {"worker": {"versioning": {"build": name}}})
        assert service <= made["spec"]["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize("name", ["", "1.2.3", "a" * 63])
def test_the_longest_release_name_gives_versions_a_name_that_is_a_dns_label(chart: Chart, name: str) -> None:
    long = {"fullnameOverride": "a" * 40, "worker": {"versioning": {"enabled": True, "build": name}}}
    deployment = chart.one("Deployment", f"{'a' * 40}-worker", LEAST, long)
    made = version_of(merged(deployment, {"metadata": {"uid": "u"}}))["metadata"]["name"]

    assert len(made) <= 63
    assert "." not in made
    assert made.startswith(f"{'a' * 40}-worker-")


def test_a_build_that_is_no_label_is_refused_by_name(chart: Chart) -> None:
    with pytest.raises(Refusal, match=r"worker\.versioning\.build: Does not match pattern"):
        chart.text(LEAST, {"worker": {"versioning": {"build": "a b"}}})


@pytest.mark.parametrize("secret", ["", "from-cert-manager"])
def test_the_operator_may_change_deployments_of_its_own_namespace_and_no_others(chart: Chart, secret: str) -> None:
    documents = chart.documents(LEAST, ON, {"progress": {"tls": {"existingSecret": secret}}})
    roles = [each for each in documents if each["kind"] == "Role"]
    rules = [rule for role in roles for rule in role["rules"] if rule["apiGroups"] == ["apps"]]

    assert rules == [
        {"apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": [PATTERN], "verbs": ["get"]},
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list", "create", "patch", "delete"]},
    ]
    assert {role["metadata"]["namespace"] for role in roles} == {NAMESPACE}
    assert "apps" not in str([each["rules"] for each in documents if each["kind"] == "ClusterRole"])
