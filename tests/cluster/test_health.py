"""What operator and workers tell of themselves."""

from __future__ import annotations

import re

import pytest

from tests.cluster.conftest import ROOT, Jobs, Kubectl

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

COMPONENTS = ("operator", "worker")


def told(system: Kubectl, component: str, path: str) -> str:
    """What each ready pod of a component answers, one after the other."""
    pods = system.items("pods", "-l", f"app.kubernetes.io/component={component}")
    names = [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    base = f"/api/v1/namespaces/{system.namespace}/pods"
    return "".join(system("get", "--raw", f"{base}/{name}:8080/proxy{path}") for name in names)


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_all_is_well(system: Kubectl, component: str, path: str) -> None:
    lines = told(system, component, path).splitlines()

    assert {line.partition(": ")[2] for line in lines} <= {"ok"}
    if path == "/readyz":
        assert "temporal: ok" in lines


def test_every_metric_that_is_documented_is_served_and_every_one_of_ours_is_documented(
    system: Kubectl, jobs: Jobs
) -> None:
    jobs.create("counted", jobs.own("true"))
    jobs.finished("counted")
    documented = set(re.findall(r"perdure_[a-z_]+", (ROOT / "docs/operations.md").read_text()))
    served = {"".join(told(system, component, "/metrics") for component in COMPONENTS)}
    names = {name for text in served for name in re.findall(r"^# TYPE (perdure_\w+) ", text, re.MULTILINE)}

    assert {name for name in names if not name.endswith("_created")} == documented
