"""What each fault does, seen from outside."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from perdure_devcluster import processes
from perdure_devcluster.node import Power
from perdure_devcluster.testing import RunningCluster, pod_manifest
from perdure_devcluster.waiting import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.timeout(120)]

# 8 s of grace, the controller's second, and the load of a small machine.
NOTICED_SECONDS = 30
WELL_AGAIN_SECONDS = 45


@pytest.fixture(autouse=True)
def _mended(running: RunningCluster) -> Iterator[None]:
    yield
    running.devcluster("up")


def long_running_pod(running: RunningCluster, namespace: str, image: str) -> None:
    """A pod that stays where it is, and starts again."""
    tolerations = [{"operator": "Exists"}]
    manifest = pod_manifest(
        namespace, "stays", image, "sleep", "600", nodeName="n2", restartPolicy="Always", tolerations=tolerations
    )
    running.create(manifest)
    running.wait_for_phase(namespace, "stays", "Running")


def test_a_killed_node_is_noticed_and_comes_back_with_its_pods(
    running: RunningCluster, namespace: str, base_image: str
) -> None:
    long_running_pod(running, namespace, base_image)
    node = running.cluster.node("n2")
    init = running.cluster.nodes.init(node)
    assert init is not None

    running.devcluster("kill-node", "n2")

    assert running.cluster.nodes.power(node) is Power.OFF
    assert not [pid for pid in processes.processes_marked(running.cluster.daemons.marker) if pid == init]
    running.wait_for_node("n2", ready=False, timeout_seconds=NOTICED_SECONDS)

    running.devcluster("start-node", "n2")

    running.wait_for_node("n2", ready=True, timeout_seconds=WELL_AGAIN_SECONDS)

    def restarted() -> bool:
        statuses = running.pod(namespace, "stays")["status"]["containerStatuses"]
        return bool(statuses[0]["restartCount"] == 1 and statuses[0]["state"].get("running"))

    wait_for(restarted, what="the pod to run again", timeout_seconds=30)


def test_nodes_come_and_go_while_the_others_run_on(running: RunningCluster, namespace: str, base_image: str) -> None:
    long_running_pod(running, namespace, base_image)
    before = [running.cluster.nodes.init(node) for node in running.cluster.node_plans]
    assert None not in before

    running.devcluster("up", "--nodes", "3")
    try:
        url = f"http://{running.pod(namespace, 'stays')['status']['podIP']}:8000"
        script = f"import urllib.request; print(urllib.request.urlopen({url!r}, timeout=10).status)"
        running.kubectl(
            "-n", namespace, "exec", "stays", "--", "sh", "-c", "python3 -m http.server 8000 >/dev/null 2>&1 &"
        )
        place = {"nodeName": "n3", "tolerations": [{"operator": "Exists"}]}
        running.create(pod_manifest(namespace, "asks", base_image, "python3", "-c", script, **place))
        running.wait_for_phase(namespace, "asks", "Succeeded")
    finally:
        running.devcluster("up", "--nodes", "2")

    assert [running.cluster.nodes.init(node) for node in running.cluster.node_plans] == before
    assert running.pod(namespace, "stays")["status"]["containerStatuses"][0]["restartCount"] == 0
    assert running.api.find("/api/v1/nodes/n3") is None


def test_a_partitioned_node_runs_on_unseen(running: RunningCluster, namespace: str, base_image: str) -> None:
    long_running_pod(running, namespace, base_image)
    running.devcluster("partition-node", "n2")
    running.wait_for_node("n2", ready=False, timeout_seconds=NOTICED_SECONDS)
    assert running.cluster.nodes.daemon(running.cluster.node("n2"), "kubelet")

    running.devcluster("heal-node", "n2")

    running.wait_for_node("n2", ready=True, timeout_seconds=WELL_AGAIN_SECONDS)
    assert running.pod(namespace, "stays")["status"]["containerStatuses"][0]["restartCount"] == 0


def test_a_frozen_node_hangs_until_it_is_thawed(running: RunningCluster) -> None:
    running.devcluster("freeze-node", "n2")
    running.wait_for_node("n2", ready=False, timeout_seconds=NOTICED_SECONDS)
    running.devcluster("thaw-node", "n2")
    running.wait_for_node("n2", ready=True, timeout_seconds=WELL_AGAIN_SECONDS)


def test_a_frozen_node_can_be_killed(running: RunningCluster) -> None:
    running.devcluster("freeze-node", "n2")
    running.devcluster("kill-node", "n2")
    assert running.cluster.nodes.power(running.cluster.node("n2")) is Power.OFF


def test_a_kubelet_that_was_killed_stays_dead_until_it_is_started(running: RunningCluster) -> None:
    node = running.cluster.node("n2")
    running.devcluster("kill-component", "n2/kubelet")
    running.wait_for_node("n2", ready=False, timeout_seconds=NOTICED_SECONDS)
    assert running.cluster.nodes.daemon(node, "kubelet") is None
    running.devcluster("start-component", "n2/kubelet")
    running.wait_for_node("n2", ready=True, timeout_seconds=WELL_AGAIN_SECONDS)


def test_a_kubelet_that_dies_by_itself_is_started_again(running: RunningCluster) -> None:
    node = running.cluster.node("n2")
    first = running.cluster.nodes.daemon(node, "kubelet")
    assert first is not None
    assert processes.kill(first)
    wait_for(lambda: running.cluster.nodes.daemon(node, "kubelet"), what="a new kubelet", timeout_seconds=15)


@pytest.mark.parametrize("name", ["kube-apiserver", "etcd", "kube-controller-manager", "coredns"])
def test_a_component_that_was_killed_can_be_started(running: RunningCluster, name: str) -> None:
    running.devcluster("kill-component", name)
    assert running.cluster.daemons.running(name) is None
    running.devcluster("start-component", name)
    assert running.cluster.daemons.running(name)
    assert running.api.get("/api/v1/nodes")["items"]


def test_up_heals_after_everything_was_killed(running: RunningCluster, namespace: str, base_image: str) -> None:
    long_running_pod(running, namespace, base_image)
    for identity in list(processes.processes_marked(running.cluster.daemons.marker)):
        processes.send(identity, signal.SIGKILL)

    running.devcluster("up")

    for name in ("n1", "n2"):
        running.wait_for_node(name, ready=True, timeout_seconds=WELL_AGAIN_SECONDS)
    # Its data was on disk, so it is there.
    assert running.pod(namespace, "stays")["metadata"]["name"] == "stays"


def test_a_third_node_comes_and_goes(running: RunningCluster, namespace: str, base_image: str) -> None:
    running.devcluster("up", "--nodes", "3")
    try:
        running.create(pod_manifest(namespace, "third", base_image, "true", nodeName="n3"))
        running.wait_for_phase(namespace, "third", "Succeeded")
    finally:
        running.devcluster("up", "--nodes", "2")

    assert {node["metadata"]["name"] for node in running.api.items("/api/v1/nodes")} == {"n1", "n2"}


def test_up_heals_after_its_records_were_lost(running: RunningCluster) -> None:
    """Processes that nobody remembers, hung ones too, are recognised by their mark, and replaced."""
    running.devcluster("freeze-node", "n2")
    for record in running.cluster.paths.run.glob("*.json"):
        record.unlink()
    running.devcluster("up")
    running.wait_for_node("n1", ready=True, timeout_seconds=WELL_AGAIN_SECONDS)
    assert running.cluster.daemons.running("etcd")


def test_no_fault_touches_a_process_that_is_not_the_clusters(running: RunningCluster) -> None:
    mine = processes.identify(os.getpid())
    assert mine is not None
    running.devcluster("kill-node", "n2")
    assert processes.is_running(mine)
