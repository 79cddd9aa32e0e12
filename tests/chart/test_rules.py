"""The alerts: each fires in one test of promtool, and stays quiet in another."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from perdure_api.conditions import Reason
from tests.chart import metrics
from tests.chart.promtool import as_asked, find_promtool, run_promtool
from tests.chart.rendered import CHART, LEAST, Chart, Document, Values
from tests.docs.markdown import ROOT, anchors

TESTS: Final = sorted((Path(__file__).parent / "rules").glob("*.yaml"))
ON: Values = {"metrics": {"rules": {"enabled": True}}}
QUIET: Final = "quiet"

# As it stands in the chart: what is replaced in it is in no name.
RULES: Final[list[Document]] = yaml.safe_load((CHART / "files" / "rules.yaml").read_text())["groups"][0]["rules"]
ALERTS: Final = [rule["alert"] for rule in RULES]
alerts = pytest.mark.parametrize("rule", RULES, ids=ALERTS)


@pytest.fixture(scope="session")
def promtool() -> Path:
    return find_promtool()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that holds the rules as they are installed, and beside them their tests."""
    folder = tmp_path_factory.mktemp("rules")
    rule = Chart().one("PrometheusRule", "perdure", LEAST, ON)
    (folder / "rules.yaml").write_text(yaml.safe_dump(rule["spec"]))
    for path in TESTS:
        shutil.copy(path, folder)
    return folder


def test_prometheus_understands_every_rule(promtool: Path, folder: Path) -> None:
    run_promtool(promtool, "check", "rules", folder / "rules.yaml")


@pytest.mark.parametrize("name", [path.stem for path in TESTS])
def test_rules_do_what_their_test_says(promtool: Path, folder: Path, name: str) -> None:
    run_promtool(promtool, "test", "rules", folder / f"{name}.yaml")


def test_prometheus_understands_every_query_of_the_dashboard(promtool: Path, tmp_path: Path) -> None:
    dashboard = json.loads((CHART / "files" / "dashboard.json").read_text())
    found = [as_asked(target["expr"]) for panel in dashboard["panels"] for target in panel["targets"]]
    rules = [{"record": f"query_{number}", "expr": expression} for number, expression in enumerate(found)]
    (tmp_path / "queries.yaml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))

    run_promtool(promtool, "check", "rules", tmp_path / "queries.yaml")


def _outcomes(name: str) -> list[Document]:
    (path,) = [path for path in TESTS if path.stem == name]
    document = yaml.safe_load(path.read_text())
    return [outcome for test in document["tests"] for outcome in test["promql_expr_test"]]


@alerts
def test_every_alert_is_seen_to_fire_and_not_to(rule: Document) -> None:
    expected = f'ALERTS{{alertname="{rule["alert"]}",alertstate="firing"}}'
    outcomes = _outcomes(rule["alert"])

    assert {outcome["expr"] for outcome in outcomes} == {expected}
    assert any(outcome["exp_samples"] for outcome in outcomes)
    assert any(not outcome["exp_samples"] for outcome in outcomes)


def test_on_a_quiet_day_every_metric_of_the_alerts_is_there_and_none_fires() -> None:
    (path,) = [path for path in TESTS if path.stem == QUIET]
    (day,) = yaml.safe_load(path.read_text())["tests"]
    there = {series["series"].partition("{")[0] for series in day["input_series"]}

    assert {name for rule in RULES for name in metrics.asked_for(rule["expr"])} <= there
    assert all(outcome["expr"] == "ALERTS" and not outcome["exp_samples"] for outcome in _outcomes(QUIET))


@alerts
def test_the_words_of_an_alert_name_only_labels_that_it_has(rule: Document) -> None:
    """Others would be nothing in the midst of a sentence."""
    named = set(re.findall(r"\$labels\.(\w+)", yaml.safe_dump(rule["annotations"])))

    for outcome in _outcomes(rule["alert"]):
        for sample in outcome["exp_samples"]:
            assert named <= set(re.findall(r'(\w+)="', sample["labels"]))


@alerts
def test_an_alert_asks_only_for_metrics_that_are_served(rule: Document) -> None:
    names = metrics.asked_for(rule["expr"])

    assert names
    assert names <= metrics.served()


@alerts
def test_an_alert_names_only_reasons_that_there_are(rule: Document) -> None:
    named = {word for found in re.findall(r'reason(?:=|!=|=~|!~)"([^"]*)"', rule["expr"]) for word in found.split("|")}

    assert named <= set(Reason)


@alerts
def test_an_alert_says_what_is_wrong_and_where_to_read_on(rule: Document) -> None:
    annotations: dict[str, Any] = rule["annotations"]

    assert annotations.keys() == {"summary", "description", "runbook"}
    assert rule["labels"]["severity"] in {"critical", "warning"}
    page, _, anchor = annotations["runbook"].partition("#")
    assert (ROOT / page).exists()
    assert anchor == rule["alert"].lower()
    assert anchor in anchors(page)


def test_every_section_about_an_alert_is_about_one_that_there_is() -> None:
    about = {anchor for anchor in anchors("docs/monitoring.md") if anchor.startswith("perdure")}

    assert about == {alert.lower() for alert in ALERTS}


def test_what_is_replaced_in_the_rules_is_replaced_everywhere(chart: Chart) -> None:
    values = {"worker": {"replicas": 7}, "metrics": {"rules": {"longWaitSeconds": 3600}}, "fullnameOverride": "mine"}
    rules = yaml.safe_dump(chart.one("PrometheusRule", "mine", LEAST, ON, values)["spec"])

    assert not re.findall(r"\b[A-Z]+_[A-Z_]+\b", rules)
    assert "< 7" in rules
    assert "> 3600" in rules
    assert 'pod=~"mine-(operator|worker|gpu-worker)-' in rules
    assert 'namespace="perdure-system"' in rules


def test_with_an_autoscaler_workers_are_missing_below_its_minimum(chart: Chart) -> None:
    scaling = {
        "scaler": {"enabled": True},
        "worker": {"replicas": 7, "autoscaling": {"enabled": True, "minReplicas": 3}},
    }
    rules = yaml.safe_dump(chart.one("PrometheusRule", "perdure", LEAST, ON, scaling)["spec"])

    assert "< 3" in rules
    assert "< 7" not in rules
