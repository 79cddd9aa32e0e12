"""Nodes that are not there, without a cluster; with one in the last test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from perdure_devcluster import cli, controlplane, kwok, plan
from perdure_devcluster.paths import SOURCE
from perdure_devcluster.testing import RunningCluster, job_manifest
from perdure_devcluster.waiting import wait_for

DOCUMENTS = list(yaml.safe_load_all((SOURCE / "kwok/stages.yaml").read_text()))
STAGES = {document["metadata"]["name"]: document["spec"] for document in DOCUMENTS if document["kind"] == "Stage"}


@pytest.fixture(autouse=True)
def _own_state(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.node.get_closest_marker("cluster"):
        monkeypatch.setenv("PERDURE_DEVCLUSTER_STATE", str(tmp_path / "state"))
        monkeypatch.setenv("PERDURE_CACHE", str(tmp_path / "cache"))


def test_only_pods_that_ask_for_it_get_onto_such_a_node() -> None:
    (taint,) = kwok.node(3)["spec"]["taints"]

    assert taint["effect"] == "NoSchedule"
    assert {key: kwok.TOLERATION[key] for key in taint} == taint
    assert kwok.NODE_SELECTOR.items() <= kwok.node(3)["metadata"]["labels"].items()


def test_kwok_plays_these_nodes_and_no_others(tmp_path: Path) -> None:
    (flag,) = (
        word.removeprefix("--manage-nodes-with-annotation-selector=")
        for word in map(str, kwok.component(tmp_path / "kwok", tmp_path / "kubeconfig").command)
        if "selector" in word
    )
    key, _, value = flag.partition("=")

    assert kwok.node(1)["metadata"]["annotations"][key] == value


def test_it_starts_again_when_what_it_says_of_pods_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configurations = []
    for text in ("one", "another"):
        (tmp_path / "stages.yaml").write_text(text)
        monkeypatch.setattr(kwok, "_STAGES", tmp_path / "stages.yaml")
        configurations.append(kwok.component(tmp_path / "kwok", tmp_path / "kubeconfig").configuration)

    assert configurations[0] != configurations[1]


def test_its_pods_take_no_address_of_a_real_nodes() -> None:
    real = {node.pod_network for node in plan.plan_nodes(plan.MAX_NODES)}

    assert all(int(network.split(".")[2]) < int(plan.KWOK_POD_NETWORK.split(".")[2]) for network in real)
    assert plan.KWOK_NODE_ADDRESS not in {node.address for node in plan.plan_nodes(plan.MAX_NODES)}


def test_a_pod_runs_before_it_succeeds_and_one_that_sleeps_goes_on() -> None:
    def of(stage: str) -> dict[str, tuple[str, Any]]:
        rules = STAGES[stage]["selector"]["matchExpressions"]
        return {rule["key"]: (rule["operator"], rule.get("values")) for rule in rules}

    assert STAGES.keys() == {"pod-ready", "pod-complete", "pod-delete"}
    assert of("pod-complete")[".status.phase"] == ("In", ["Running"])
    assert of("pod-complete")[".spec.containers.[0].command.[0]"] == ("NotIn", ["sleep"])


@pytest.mark.parametrize("count", ["-1", "1001"])
def test_a_number_of_nodes_that_makes_no_sense_is_refused(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["kwok", f"--nodes={count}"]) == 1
    assert f"found {count} nodes for KWOK, expected 0 to 1000" in capsys.readouterr().err


def test_without_a_cluster_it_says_how_to_get_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["kwok", "--nodes", "3"]) == 1
    assert "run: devcluster up" in capsys.readouterr().err


@pytest.mark.cluster
def test_a_job_on_such_a_node_completes_and_the_nodes_go_again(running: RunningCluster, namespace: str) -> None:
    running.devcluster("kwok", "--nodes", "2")
    try:
        for name, command in {"ends": "true", "goes-on": "sleep"}.items():
            manifest = job_manifest(namespace, name, "nobody-pulls-it", command)
            pod = manifest["spec"]["template"]["spec"]
            pod |= {"nodeSelector": kwok.NODE_SELECTOR, "tolerations": [kwok.TOLERATION]}
            running.create(manifest)
        running.wait_for_job(namespace, "ends")
        pods = f"/api/v1/namespaces/{namespace}/pods"
        wait_for(
            lambda: sorted(pod["status"]["phase"] for pod in running.api.items(pods)) == ["Running", "Succeeded"],
            what="one pod to end and one to run",
            timeout_seconds=20,
        )
    finally:
        running.devcluster("kwok", "--nodes", "0")

    assert "kwok" not in running.kubectl("get", "nodes")
    assert controlplane.KWOK not in running.devcluster("status")
