"""Perdure in the cluster of the current context, as `CLUSTER=current make demo` finds or installs it."""

from __future__ import annotations

import os
import sys

import demo
import demo_cluster
import pytest

from perdure_api.crd import PLAIN as CRD
from tests.conftest import ApiServer, binary

pytestmark = pytest.mark.cluster
REGISTRY = "registry.example.com/ml"
COUNTS = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")


@pytest.fixture
def kubectl(api_server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> demo_cluster.Kubectl:
    """kubectl of the current context, which is an API server that runs nothing."""
    monkeypatch.setenv("KUBECONFIG", str(api_server.kubeconfig))
    program = binary("kubectl")
    return demo_cluster.Kubectl((str(program),))


@pytest.fixture
def without_perdure(api_server: ApiServer, kubectl: demo_cluster.Kubectl) -> demo_cluster.Kubectl:
    if kubectl.get("deployments", "-A")["items"]:
        demo_cluster.run([demo_cluster.tool("helm"), "uninstall", "perdure", "-n", demo_cluster.SYSTEM_NAMESPACE])
    api_server.kubectl("delete", "--ignore-not-found", "-f", str(CRD))  # nobody's: Helm would not take it over
    return kubectl


@pytest.fixture
def with_perdure(without_perdure: demo_cluster.Kubectl) -> demo_cluster.Kubectl:
    demo_cluster.install_unless_there(without_perdure, REGISTRY)
    return without_perdure


def test_without_perdure_and_without_a_registry_it_says_what_to_type(without_perdure: demo_cluster.Kubectl) -> None:
    with pytest.raises(demo_cluster.DemoError, match=r"CLUSTER=current REGISTRY=registry.example.com/ml make demo"):
        demo_cluster.install_unless_there(without_perdure, "")


@pytest.mark.usefixtures("kubectl")
def test_what_is_installed_on_this_machine_is_said_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], api_server: ApiServer
) -> None:
    binaries = binary("kubectl").parent
    monkeypatch.setenv("PATH", f"{binaries}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(sys, "argv", ["demo.py", "--cluster", "current"])

    assert demo.main() == 1

    said = capsys.readouterr()
    assert "bible-kjv (apt-get, as root)" in said.out.partition("Perdure\033[0m")[0]
    assert "CLUSTER=current REGISTRY=" in said.err


def test_what_is_installed_pulls_from_the_registry(with_perdure: demo_cluster.Kubectl) -> None:
    pods = [each["spec"]["template"]["spec"] for each in with_perdure.get("deployments", "-A")["items"]]

    assert {pod["containers"][0]["image"] for pod in pods} == {f"{REGISTRY}/perdure-cpu:0.1.0"}


def test_perdure_that_is_there_is_left_as_it_is(
    with_perdure: demo_cluster.Kubectl, capsys: pytest.CaptureFixture[str]
) -> None:
    before = with_perdure.get("deployments,statefulsets,secrets", "-A")

    demo_cluster.install_unless_there(with_perdure, "other.example.com")

    assert with_perdure.get("deployments,statefulsets,secrets", "-A") == before
    assert "is left as it is" in capsys.readouterr().out


def test_perdure_that_does_not_become_ready_is_told_with_what_to_do(
    with_perdure: demo_cluster.Kubectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_cluster, "READY_SECONDS", 1)

    with pytest.raises(demo_cluster.DemoError, match=r"in namespace perdure-system is not ready(.|\n)*helm uninstall"):
        demo_cluster.ready_release(with_perdure)


def test_perdure_that_is_ready_is_told_by_its_names(with_perdure: demo_cluster.Kubectl) -> None:
    for each in with_perdure.get("deployments,statefulsets", "-A")["items"]:
        counts = dict.fromkeys(COUNTS, each["spec"]["replicas"])
        ready = {**each, "status": {"observedGeneration": each["metadata"]["generation"], **counts}}
        with_perdure.run("replace", "--subresource=status", "-f", "-", quiet=True, document=ready)

    assert demo_cluster.ready_release(with_perdure) == demo_cluster.Release(
        "perdure-system", (), "perdure-seaweedfs", "perdure-object-store"
    )


def test_a_store_of_ones_own_is_not_written_to(with_perdure: demo_cluster.Kubectl) -> None:
    with_perdure.run("delete", "service", "perdure-seaweedfs", "-n", "perdure-system", quiet=True)

    with pytest.raises(demo_cluster.DemoError, match="works with an object store of yours"):
        demo_cluster.ready_release(with_perdure)
