"""How Prometheus and Grafana come to see an installation."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from perdure_api.conditions import Phase, Reason
from tests.chart import metrics
from tests.chart.rendered import CHART, LEAST, Chart, Document, Values, helm, merged
from tests.docs.markdown import table_rows

ALL_OF_IT: Values = {
    "metrics": {"podMonitor": {"enabled": True}, "rules": {"enabled": True}, "dashboard": {"enabled": True}}
}
DASHBOARD: Final[Document] = json.loads((CHART / "files" / "dashboard.json").read_text())
EXPRESSIONS: Final = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
expressions = pytest.mark.parametrize("expression", EXPRESSIONS)


def test_by_default_nothing_is_made_of_kinds_that_a_cluster_may_not_know(chart: Chart) -> None:
    documents = chart.documents(LEAST)

    assert not [each for each in documents if each["apiVersion"].startswith("monitoring.coreos.com/")]
    assert "ConfigMap" not in {each["kind"] for each in documents}


@pytest.mark.parametrize(("what", "kind"), [
    ("podMonitor", "PodMonitor"), ("rules", "PrometheusRule"), ("dashboard", "ConfigMap"),
])  # fmt: skip
def test_each_can_be_had_alone_and_gets_the_labels_by_which_it_is_picked(chart: Chart, what: str, kind: str) -> None:
    values = {"metrics": {what: {"enabled": True, "labels": {"release": "prometheus"}}}}
    plain = {(each["kind"], each["metadata"]["name"]) for each in chart.documents(LEAST)}

    (added,) = [
        each for each in chart.documents(LEAST, values) if (each["kind"], each["metadata"]["name"]) not in plain
    ]

    assert added["kind"] == kind
    assert added["metadata"]["labels"]["release"] == "prometheus"
    assert added["metadata"]["labels"]["app.kubernetes.io/instance"] == "perdure"
    assert added["metadata"]["namespace"] == "perdure-system"


def test_helm_lint_finds_nothing_with_all_of_it() -> None:
    result = helm("lint", "--strict", CHART, "--values=-", document=merged(LEAST, ALL_OF_IT))

    assert result.returncode == 0, result.stdout + result.stderr


def _scraped(monitor: Document, template: Document) -> bool:
    """Whether a PodMonitor picks the pods of a template and finds its port there, be it of metrics or not."""
    labels, selector = template["metadata"]["labels"], monitor["spec"]["selector"]
    (expression,) = selector["matchExpressions"]
    assert expression["operator"] == "In"
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    ports = [port["name"] for each in template["spec"]["containers"] for port in each["ports"]]
    return (
        selector["matchLabels"].items() <= labels.items()
        and labels[expression["key"]] in expression["values"]
        and endpoint["port"] in ports
    )


@pytest.mark.parametrize("versioned", [False, True], ids=["one version", "versions"])
def test_operator_workers_and_scaler_are_scraped_and_the_quick_starts_are_not(
    chart: Chart, everything: Values, *, versioned: bool
) -> None:
    pools = {"worker": {"versioning": {"enabled": versioned}}, "gpuWorker": {"enabled": True}}
    documents = chart.documents(everything, ALL_OF_IT, pools, {"scaler": {"enabled": True}})
    (monitor,) = [each for each in documents if each["kind"] == "PodMonitor"]

    scraped = {
        each["metadata"]["name"]
        for each in documents
        if each["kind"] in {"Deployment", "StatefulSet"} and _scraped(monitor, each["spec"]["template"])
    }

    assert scraped == {"perdure-operator", "perdure-worker", "perdure-gpu-worker", "perdure-scaler"}


def test_versions_of_the_workers_can_be_told_apart(chart: Chart) -> None:
    values = merged(LEAST, ALL_OF_IT, {"worker": {"versioning": {"enabled": True}}})
    monitor, worker = chart.one("PodMonitor", "perdure", values), chart.one("Deployment", "perdure-worker", values)

    assert set(monitor["spec"]["podTargetLabels"]) <= worker["spec"]["template"]["metadata"]["labels"].keys()


def test_alerts_and_dashboard_speak_of_containers_that_there_are(chart: Chart) -> None:
    """They tell operator, workers and scaler apart by what the PodMonitor takes over: the containers' names."""
    named = set(re.findall(r'container=~"([^"]*)"', str(EXPRESSIONS)))

    assert named == {"operator|worker|scaler"}
    for name in ("operator", "worker", "scaler"):
        deployment = chart.one("Deployment", f"perdure-{name}", LEAST, {"scaler": {"enabled": True}})
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert container["name"] == name


def test_interval_and_relabelings_are_taken_over(chart: Chart) -> None:
    relabelings = [{"action": "replace", "targetLabel": "cluster", "replacement": "eu-1"}]
    values = {"metrics": {"podMonitor": {"interval": "15s", "relabelings": relabelings}}}

    (endpoint,) = chart.one("PodMonitor", "perdure", LEAST, ALL_OF_IT, values)["spec"]["podMetricsEndpoints"]

    assert endpoint == {"port": "http", "path": "/metrics", "interval": "15s", "relabelings": relabelings}


def test_grafanas_sidecar_finds_the_dashboard_as_it_stands_in_the_chart(chart: Chart) -> None:
    config_map = chart.one("ConfigMap", "perdure-dashboard", LEAST, ALL_OF_IT)

    assert config_map["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(config_map["data"]["perdure.json"]) == DASHBOARD


@expressions
def test_the_dashboard_asks_only_for_metrics_that_are_served(expression: str) -> None:
    names = metrics.asked_for(expression)

    assert names
    assert names <= metrics.served()


@expressions
def test_the_dashboard_shows_one_installation(expression: str) -> None:
    selectors = re.findall(r"(?:perdure|process)_[a-z_]+(\{[^}]*\})?", expression)

    assert all('namespace="$namespace"' in selector for selector in selectors)


@pytest.mark.parametrize(("label", "known"), [("reason", set(Reason)), ("phase", set(Phase))])
def test_the_dashboard_names_only_what_there_is(label: str, known: set[str]) -> None:
    found = re.findall(rf'\b{label}(?:=|!=|=~|!~)"([^"]*)"', " ".join(EXPRESSIONS))

    assert found
    assert {word for words in found for word in words.split("|")} <= known


def test_no_two_panels_lie_on_each_other() -> None:
    cells = [
        (x, y)
        for at in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]

    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_the_dashboard_is_what_its_program_makes() -> None:
    program = CHART.parents[1] / "scripts" / "dashboard.py"

    result = subprocess.run([sys.executable, program, "--check"], capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stderr


def _documented() -> dict[str, str]:
    """The metrics of the table in docs/operations.md, each with whose it is."""
    rows = [row for table in table_rows("docs/operations.md") for row in table if "perdure_" in row[0]]
    return {name: row[1] for row in rows for name in re.findall(r"`(perdure_\w+)", row[0])}


def test_every_metric_stands_in_the_documentation_with_whose_it_is() -> None:
    def plain(names: set[str]) -> set[str]:
        ours = {name for name in names if name.startswith("perdure_")}
        return {re.sub(r"_(bucket|count|sum)$", "", name) for name in ours}

    operator, worker = plain(metrics.of_operator()), plain(metrics.of_worker())
    whose = {
        name: "both" if name in operator & worker else "operator" if name in operator else "worker"
        for name in operator | worker
    }

    assert _documented() == whose


def test_every_metric_of_the_scaler_stands_on_its_page() -> None:
    rows = [row for table in table_rows("docs/scaling.md") for row in table if row[0].startswith("`perdure_")]

    assert {name for row in rows for name in re.findall(r"`(perdure_\w+)", row[0])} == {
        name for name in metrics.of_scaler() - metrics.of_worker() if name.startswith("perdure_")
    }


def test_the_prometheus_of_the_tests_stays_out_of_the_repository() -> None:
    script = Path(CHART.parents[1], "scripts", "prometheus").read_text()

    assert 'folder="build/prometheus/' in script
    assert "/build/" in Path(CHART.parents[1], ".gitignore").read_text().splitlines()
