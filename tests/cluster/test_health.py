"""What operator and workers tell of themselves."""

from __future__ import annotations

import re

import pytest

from tests.cluster.commands import told
from tests.cluster.conftest import ROOT, Jobs, Kubectl, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

COMPONENTS = ("operator", "worker")


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_all_is_well(system: Kubectl, component: str, path: str) -> None:
    lines = told(system, component, path).splitlines()

    assert {line.partition(": ")[2] for line in lines} <= {"ok"}
    if path == "/readyz":
        assert "temporal: ok" in lines


@pytest.mark.alone
def test_temporal_that_is_away_is_told_and_nobody_is_taken_out_of_service(system: Kubectl) -> None:
    def problems() -> set[str]:
        lines = [line for component in COMPONENTS for line in told(system, component, "/readyz").splitlines()]
        return {line for line in lines if not line.endswith(": ok")}

    system("scale", "statefulset/perdure-temporal", "--replicas=0")
    try:
        said = "temporal: no answer within 5 s"
        wait_until(lambda: any(line.startswith("temporal: no answer") for line in problems()), 60, lambda: said)
        ready = system.items("pods", "-l", "app.kubernetes.io/component in (operator,worker)")
        conditions = [each for pod in ready for each in pod["status"]["conditions"] if each["type"] == "Ready"]
        assert {each["status"] for each in conditions} == {"True"}
    finally:
        system("scale", "statefulset/perdure-temporal", "--replicas=1")
    system("rollout", "status", "statefulset/perdure-temporal", "--timeout=60s")
    wait_until(lambda: problems() == set(), 60, lambda: str(problems()))


def test_every_metric_that_is_documented_is_served_and_every_one_of_ours_is_documented(
    system: Kubectl, jobs: Jobs
) -> None:
    jobs.create("counted", jobs.own("true"))
    jobs.finished("counted")
    documented = set(re.findall(r"perdure_[a-z_]+", (ROOT / "docs/operations.md").read_text()))
    served = {"".join(told(system, component, "/metrics") for component in COMPONENTS)}
    names = {name for text in served for name in re.findall(r"^# TYPE (perdure_\w+) ", text, re.MULTILINE)}

    assert {name for name in names if not name.endswith("_created")} == documented
