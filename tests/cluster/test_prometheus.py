"""A real Prometheus scrapes the installation, by the chart's own PodMonitor, and is asked all that the chart asks.

Debian's Prometheus is built without the discovery of Kubernetes, so the tests find the pods as the PodMonitor says, and
write them into a file that it reads.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import pytest
import yaml

from perdure_cli.trial import training_job
from tests.chart import metrics
from tests.chart.promtool import as_asked, find_prometheus
from tests.chart.rendered import CHART, CI_VALUES, Chart, Document
from tests.cluster.commands import install
from tests.cluster.conftest import SYSTEM, Jobs, Kubectl, phase, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.timeout(600)]

MONITORING: Final = {"metrics": {"podMonitor": {"enabled": True}, "rules": {"enabled": True}}}
DASHBOARD: Final[Document] = json.loads((CHART / "files" / "dashboard.json").read_text())
EXPRESSIONS: Final = [as_asked(target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]]
NOT_HERE: Final = {
    "perdure_operator_worker_versions": "this installation has no versions; tests/cluster/test_versions.py has",
    "perdure_breaker_state": "no activity of ours has a circuit breaker",
}
"""Metrics that this installation has no sample of, each with the reason."""
SELECTIVE: Final = re.compile(r"(==|!=|>|<) (0|1|\+Inf)\b")
"""A comparison leaves out what does not fit: that nothing comes of it may be good news."""


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus."""

    address: str
    targets: Path

    def get(self, path: str, **query: str) -> Any:
        """The data of an answer; the message of one that is an error."""
        try:
            with urllib.request.urlopen(f"{self.address}{path}?{urlencode(query)}", timeout=10) as answer:
                document = json.load(answer)
        except urllib.error.HTTPError as error:
            document = json.load(error)
        assert document["status"] == "success", document
        assert not document.get("warnings"), document
        return document["data"]

    def samples(self, expression: str) -> list[Any]:
        """What a query comes to now."""
        return list(self.get("/api/v1/query", query=expression)["result"])

    def scrape(self, system: Kubectl, monitor: Document) -> None:
        """Tells it of the pods that a PodMonitor picks, with the labels that its operator would give them."""
        spec = monitor["spec"]
        (endpoint,) = spec["podMetricsEndpoints"]
        groups = [
            {
                "targets": [f"{pod['status']['podIP']}:{port['containerPort']}"],
                "labels": {
                    "namespace": system.namespace,
                    "pod": pod["metadata"]["name"],
                    "container": container["name"],
                    "__metrics_path__": endpoint["path"],
                },
            }
            for pod in system.items("pods", "-l", _selector(spec["selector"]))
            if pod["status"].get("podIP") and "deletionTimestamp" not in pod["metadata"]
            for container in pod["spec"]["containers"]
            for port in container["ports"]
            if port["name"] == endpoint["port"]
        ]
        new = self.targets.with_suffix(".new")
        new.write_text(json.dumps(groups))
        new.rename(self.targets)


def _selector(selector: Document) -> str:
    equal = [f"{key}={value}" for key, value in selector["matchLabels"].items()]
    among = [f"{each['key']} in ({','.join(each['values'])})" for each in selector["matchExpressions"]]
    return ",".join(equal + among)


@contextmanager
def running_prometheus(folder: Path, rules: Document) -> Iterator[Prometheus]:
    """One on loopback, which knows these rules and no targets yet, until the end of the block."""
    targets = folder / "targets.json"
    targets.write_text("[]")
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules))
    configuration = {
        "global": {"scrape_interval": "2s", "evaluation_interval": "2s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [
            {"job_name": "perdure", "file_sd_configs": [{"files": [targets.name], "refresh_interval": "1s"}]}
        ],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(configuration))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [
        str(find_prometheus()), f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}", "--log.level=warn",
    ]  # fmt: skip
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        try:
            _wait_until_ready(f"http://{address}/-/ready", process, folder / "log")
            yield Prometheus(f"http://{address}", targets)
        finally:
            process.kill()


def _wait_until_ready(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, f"prometheus ended at once:\n{log.read_text()[-2000:]}"
        try:
            urllib.request.urlopen(address, timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"prometheus was not ready within 60 s:\n{log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def objects() -> dict[str, Document]:
    """What the chart gives the Prometheus operator, by kind."""
    (path,) = [path for path in CI_VALUES if path.stem == "devcluster-values"]
    values = yaml.safe_load(path.read_text())
    return {each["kind"]: each for each in Chart().documents(values, MONITORING)}


@pytest.fixture(scope="module")
def prometheus(
    system: Kubectl, jobs: Jobs, objects: dict[str, Document], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """One that scrapes an installation with a scaler, in which a job has succeeded and another goes on."""
    install("--set", "scaler.enabled=true")
    try:
        with running_prometheus(tmp_path_factory.mktemp("prometheus"), objects["PrometheusRule"]["spec"]) as started:
            started.scrape(system, objects["PodMonitor"])
            jobs.kubectl("create", "-f", "-", document=training_job("reports", jobs.base_image, {}))
            jobs.create("goes-on", jobs.own("sleep", "3600"))
            jobs.finished("reports")
            jobs.until("goes-on", lambda job: phase(job) == "Running")
            yield started
    finally:
        install()
        system("rollout", "status", "deployment/perdure-worker", "--timeout=120s")


def test_every_pod_of_ours_is_scraped(prometheus: Prometheus, system: Kubectl) -> None:
    pods = system.items("pods", "-l", "app.kubernetes.io/component in (operator,worker,scaler)")

    def up() -> set[str]:
        return {sample["metric"]["pod"] for sample in prometheus.samples("up == 1")}

    wait_until(lambda: up() == {pod["metadata"]["name"] for pod in pods}, 30, lambda: f"only {up()} are up")


def test_every_metric_of_alerts_and_dashboard_is_there(prometheus: Prometheus, objects: dict[str, Document]) -> None:
    rules = [rule["expr"] for group in objects["PrometheusRule"]["spec"]["groups"] for rule in group["rules"]]
    wanted = {name for expression in EXPRESSIONS + rules for name in metrics.asked_for(expression)} - NOT_HERE.keys()

    def missing() -> set[str]:
        return {name for name in wanted if not prometheus.samples(name)}

    wait_until(lambda: not missing(), 60, lambda: f"there is no sample of {sorted(missing())}")


def test_every_query_of_the_dashboard_is_answered_and_shows_something(prometheus: Prometheus) -> None:
    shown = [
        expression
        for expression in EXPRESSIONS
        if not SELECTIVE.search(expression) and metrics.asked_for(expression).isdisjoint(NOT_HERE)
    ]
    assert shown

    def empty() -> list[str]:
        return [expression for expression in EXPRESSIONS if not prometheus.samples(expression) and expression in shown]

    wait_until(lambda: not empty(), 60, lambda: f"nothing comes of {empty()}")


def test_every_alert_is_evaluated_without_an_error_and_none_fires(prometheus: Prometheus) -> None:
    def rules() -> list[Document]:
        return [rule for group in prometheus.get("/api/v1/rules")["groups"] for rule in group["rules"]]

    def unwell() -> list[Document]:
        return [rule for rule in rules() if rule["health"] != "ok" or rule.get("lastError")]

    wait_until(lambda: bool(rules()) and not unwell(), 30, lambda: f"{unwell()}")
    assert [rule["name"] for rule in rules() if rule["state"] == "firing"] == []


def test_the_dashboard_finds_the_installation_to_show(prometheus: Prometheus) -> None:
    (variable,) = [each for each in DASHBOARD["templating"]["list"] if each["type"] == "query"]
    found = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"])
    assert found

    assert prometheus.get(f"/api/v1/label/{found[2]}/values", **{"match[]": found[1]}) == [SYSTEM]
