"""Every value of the chart is rendered, and every object that comes of it is taken by a real API server."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
import yaml

from tests.chart.rendered import NAMESPACE, Chart, Document
from tests.chart.switches import DEFAULTS, Case, NoCase, cases, leaves, others
from tests.conftest import ApiServer

FOREIGN = sorted((Path(__file__).parent / "foreign").glob("*.yaml"))
"""CRDs of others, as far as we use them: no cluster of ours has the originals."""
NAMESPACES = (NAMESPACE, "team-a", "team-b")


def test_every_value_has_a_case() -> None:
    for path, node, default in leaves():
        assert others(path, node, default)


def test_every_choice_of_a_closed_set_has_a_case() -> None:
    found = {(case.path, json.dumps(case.value)) for case in cases()}

    assert {("scaler.enabled", "true"), ("crds.enabled", "false"), ("metrics.podMonitor.enabled", "true")} <= found
    assert {value for path, value in found if path == "worker.autoscaling.provider"} == {
        '"keda"', '"prometheus-adapter"',
    }  # fmt: skip


def test_what_depends_on_a_switch_is_tried_with_the_switch_on() -> None:
    (case,) = [case for case in cases() if case.path == "metrics.rules.longWaitSeconds"]

    assert case.together == {"metrics": {"rules": {"enabled": True}}}
    assert DEFAULTS["metrics"]["rules"]["enabled"] is False


def test_a_new_value_of_an_open_set_without_an_example_is_a_mistake() -> None:
    with pytest.raises(NoCase, match=r"worker\.brandNew of values\.schema\.json is new here"):
        others("worker.brandNew", {"type": "string"}, "")


@pytest.fixture(scope="module")
def prepared(api_server: ApiServer) -> ApiServer:
    """An API server that knows the namespaces of all cases, and the kinds of others that the chart may make."""
    for namespace in NAMESPACES:
        api_server.kubectl("create", "namespace", namespace)
    for path in FOREIGN:
        api_server.kubectl("apply", "-f", str(path))
        api_server.kubectl("wait", "--for=condition=Established", "-f", str(path), "--timeout=30s")
    return api_server


@cache
def rendered(values: str) -> list[Document]:
    return Chart().documents(json.loads(values), tests=True)


@pytest.mark.cluster
@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", cases(), ids=str)
def test_a_value_changes_objects_and_the_api_server_takes_them(prepared: ApiServer, case: Case) -> None:
    before, after = rendered(json.dumps(case.before)), Chart().documents(case.after, tests=True)
    new = [document for document in after if document not in before]
    gone = [document for document in before if document not in after]

    assert new or gone, "nothing comes of it"
    if new:
        items = {"apiVersion": "v1", "kind": "List", "items": new}
        said = prepared.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", document=items)
        assert len(said.splitlines()) == len(new), said


@pytest.mark.cluster
def test_a_mistake_in_an_object_of_another_project_would_be_seen(prepared: ApiServer) -> None:
    monitor = Chart().one("PodMonitor", "perdure", {
        "image": {"registry": "r"}, "temporal": {"address": "t:1"}, "metrics": {"podMonitor": {"enabled": True}},
    })  # fmt: skip
    monitor["spec"]["podMetricsEndpoint"] = monitor["spec"].pop("podMetricsEndpoints")

    with pytest.raises(AssertionError, match="podMetricsEndpoint"):
        prepared.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", document=monitor)


def test_kinds_ofothers_are_known_as_far_as_the_chart_uses_them() -> None:
    known = {
        (crd["spec"]["group"], crd["spec"]["names"]["kind"])
        for crd in map(yaml.safe_load, map(Path.read_text, FOREIGN))
    }

    assert known >= {
        ("monitoring.coreos.com", "PodMonitor"),
        ("monitoring.coreos.com", "PrometheusRule"),
        ("keda.sh", "ScaledObject"),
    }
