"""The command line, without a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from perdure_devcluster import cli, faults, waiting
from perdure_devcluster.cluster import Cluster, Settings, load_settings
from perdure_devcluster.errors import DevclusterError
from perdure_devcluster.paths import SOURCE, Paths


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_DEVCLUSTER_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PERDURE_CACHE", str(tmp_path / "cache"))


def test_kubeconfig_prints_a_path_and_nothing_else(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["kubeconfig"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/state/kubeconfig\n"


def test_the_wrapper_runs_from_anywhere_with_nothing_installed(tmp_path: Path) -> None:
    command = [str(SOURCE / "devcluster"), "kubeconfig"]
    environment = {"PATH": os.environ["PATH"], "PERDURE_DEVCLUSTER_STATE": "/s"}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout == "/s/kubeconfig\n"


def test_the_package_imports_nothing_but_the_standard_library() -> None:
    """It has to run on a machine where nothing of ours is installed yet."""
    script = "import perdure_devcluster.cli, perdure_devcluster.node_init, perdure_devcluster.volumes"
    environment = {"PYTHONPATH": str(SOURCE)}
    subprocess.run([sys.executable, "-S", "-c", script], env=environment, check=True)


def test_an_unknown_node_is_an_error_that_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["kill-node", "n9"]) == 1
    assert "expected a node of this cluster: n1, n2" in capsys.readouterr().err


def test_an_unknown_component_is_an_error_that_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["logs", "kube-schedular"]) == 1
    assert "kube-scheduler" in capsys.readouterr().err


def test_a_log_that_is_not_there_yet_says_how_to_get_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["logs", "n1/kubelet"]) == 1
    assert "run: devcluster up" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "daemon", "node"),
    [("etcd", "etcd", None), ("n1/kubelet", "kubelet", "n1"), ("2/containerd", "containerd", "n2")],
)
def test_components_are_found_in_the_control_plane_and_on_nodes(
    tmp_path: Path, name: str, daemon: str, node: str | None
) -> None:
    component = faults.parse_component(Cluster(Paths(tmp_path, tmp_path), Settings()), name)
    assert component.daemon == daemon
    assert (component.node.name if component.node else None) == node


@pytest.mark.parametrize("name", ["kubelet", "n1/etcd", "n1/", "/", "n1"])
def test_a_daemon_is_no_component_where_it_does_not_run(tmp_path: Path, name: str) -> None:
    with pytest.raises(DevclusterError, match="expected one of"):
        faults.parse_component(Cluster(Paths(tmp_path, tmp_path), Settings()), name)


@pytest.mark.parametrize("text", ["", "{", '{"nodes": 3, "surprise": 1}'])
def test_settings_that_make_no_sense_are_the_defaults(tmp_path: Path, text: str) -> None:
    (tmp_path / "cluster.json").write_text(text)
    assert load_settings(Paths(tmp_path, tmp_path)) == Settings(nodes=2, gpus_per_node=4)


def test_a_wait_that_ends_in_vain_says_what_for() -> None:
    with pytest.raises(DevclusterError, match="waited 0 s for the moon, and it did not come"):
        waiting.wait_for(lambda: False, what="the moon", timeout_seconds=0)
