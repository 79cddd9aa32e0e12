"""Control groups of both versions, on whichever of them this machine has."""

from __future__ import annotations

import os
import signal
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure_devcluster import cgroups, processes
from perdure_devcluster.cgroups import Hierarchy
from perdure_devcluster.cgroups.v1 import V1
from perdure_devcluster.cgroups.v2 import V2
from perdure_devcluster.errors import DevclusterError
from perdure_devcluster.processes import Daemons, ProcessIdentity
from perdure_devcluster.waiting import wait_for

# Handled, so that it is not fatal by itself: the process must go on to end.
ENDS_WHEN_TOLD = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
print("ready", flush=True)
while True:
    signal.pause()
"""


def v2_mount() -> Path | None:
    """Where this machine has version 2: in hybrid mode, beside version 1 and without controllers."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return next((Path(words[1]) for words in mounts if words[2] == "cgroup2"), None)


def on_this_machine(version: str) -> Hierarchy:
    """Real control groups, in a group of the test's own."""
    if os.geteuid() != 0:
        pytest.skip("control groups can only be made by root")
    group = f"perdure-test-{uuid.uuid4().hex[:8]}"
    if version == "v1":
        if not Path("/sys/fs/cgroup/freezer/cgroup.procs").exists():
            pytest.skip("this machine has no control groups of version 1")
        return V1(group=group)
    mount = v2_mount()
    if mount is None:
        pytest.skip("this machine has no control groups of version 2")
    return V2(mount, group)


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[Daemons]:
    daemons = Daemons(tmp_path / "run", tmp_path / "logs", marker=str(tmp_path))
    yield daemons
    for record in (tmp_path / "run").glob("*.json"):
        daemons.kill(record.stem)


@pytest.fixture(params=["v1", "v2"])
def hierarchy(request: pytest.FixtureRequest, daemons: Daemons) -> Iterator[Hierarchy]:
    hierarchy = on_this_machine(request.param)
    yield hierarchy
    for record in daemons.records.glob("*.json"):
        if identity := daemons.running(record.stem):
            processes.send(identity, signal.SIGKILL)
    hierarchy.thaw_all()
    hierarchy.remove_all()


def start(daemons: Daemons, hierarchy: Hierarchy, *prefix: str, path: str = os.defpath) -> ProcessIdentity:
    """A process in the group ``node`` that is ready to be told to end."""
    procs_files = hierarchy.make("node")
    daemons.start("it", [*prefix, sys.executable, "-c", ENDS_WHEN_TOLD], {"PATH": path}, procs_files, "")
    wait_for(lambda: "ready" in daemons.log("it").read_text(), what="the process", timeout_seconds=60)
    identity = daemons.running("it")
    assert identity is not None
    return identity


def groups_of(identity: ProcessIdentity) -> str:
    return Path(f"/proc/{identity.pid}/cgroup").read_text()


def test_this_machine_has_what_a_node_needs() -> None:
    cgroups.of_this_machine().check()


def test_a_process_starts_inside_its_group(daemons: Daemons, hierarchy: Hierarchy) -> None:
    identity = start(daemons, hierarchy)
    assert "/node\n" in groups_of(identity)


def test_a_frozen_process_goes_on_only_when_thawed(daemons: Daemons, hierarchy: Hierarchy) -> None:
    identity = start(daemons, hierarchy)
    hierarchy.freeze("node")
    assert hierarchy.is_frozen("node")
    processes.send(identity, signal.SIGTERM)
    assert not processes.wait_until_gone(identity, 0.3)

    hierarchy.thaw("node")

    assert not hierarchy.is_frozen("node")
    assert processes.wait_until_gone(identity, 20)


def test_a_frozen_process_that_is_killed_and_thawed_is_gone(daemons: Daemons, hierarchy: Hierarchy) -> None:
    identity = start(daemons, hierarchy)
    hierarchy.freeze("node")
    processes.send(identity, signal.SIGKILL)
    hierarchy.thaw("node")
    assert processes.wait_until_gone(identity, 20)


def test_a_group_that_was_never_made_is_not_frozen(hierarchy: Hierarchy) -> None:
    assert not hierarchy.is_frozen("node")


def test_removing_waits_for_the_last_process_and_leaves_nothing(daemons: Daemons, hierarchy: Hierarchy) -> None:
    identity = start(daemons, hierarchy)
    groups = [file.parent for file in hierarchy.make("node")]
    processes.send(identity, signal.SIGKILL)
    hierarchy.remove("node")
    assert not [group for group in groups if group.exists()]


def test_a_nodes_group_is_the_root_of_what_its_processes_see(daemons: Daemons, hierarchy: Hierarchy) -> None:
    hierarchy.make("node")
    # No program is found on this path: the way into the leaf starts none, which
    # would be taken for the node's first process.
    identity = start(daemons, hierarchy, "/usr/bin/unshare", "--cgroup", *hierarchy.into_leaf("node"), path="/nowhere")
    assert "not found" not in daemons.log("it").read_text()
    seen = Path(f"/proc/{identity.pid}/ns/cgroup")
    assert seen.readlink() != Path("/proc/self/ns/cgroup").readlink()
    # On version 2 the group itself has to stay empty of processes.
    empty = isinstance(hierarchy, V2)
    assert ("/node/init\n" in groups_of(identity)) is empty
    assert all((file.read_text() == "") is empty for file in hierarchy.make("node"))


def test_controllers_cannot_be_handed_down_past_processes(daemons: Daemons) -> None:
    """As in a container whose own processes are in the root of its control groups."""
    outer = on_this_machine("v2")
    assert isinstance(outer, V2)
    try:
        start(daemons, outer)
        inner = V2(outer.root / outer.group / "node")
        if not (inner.root / "cgroup.controllers").read_text().split():
            pytest.skip("all controllers are at version 1 here: there is nothing to hand down")
        with pytest.raises(DevclusterError, match="found processes in the control group"):
            inner.make("n1")
    finally:
        daemons.kill("it")
        outer.remove_all()


def version_2(root: Path, controllers: str) -> V2:
    (root / "cgroup.controllers").write_text(controllers)
    return V2(root, "ours")


def test_version_2_without_a_controller_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(DevclusterError, match=r"found no memory in .*cgroup_enable=memory"):
        version_2(tmp_path, "cpuset cpu io pids").check()


def test_version_1_without_a_hierarchy_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(DevclusterError, match="found no control group hierarchy for cpu, cpuacct,"):
        V1(tmp_path).check()


def test_every_controller_that_a_kubelet_uses_is_handed_down_to_the_node(tmp_path: Path) -> None:
    version_2(tmp_path, "cpuset cpu io memory hugetlb pids rdma misc").make("n1")
    for folder in (tmp_path, tmp_path / "ours"):
        assert (folder / "cgroup.subtree_control").read_text() == "+cpu +cpuset +memory +pids +io +hugetlb"
    # From there on the node's own kubelet does.
    assert not (tmp_path / "ours/n1/cgroup.subtree_control").exists()


def test_the_control_plane_has_more_weight_than_a_node(tmp_path: Path) -> None:
    hierarchy = version_2(tmp_path, "cpu cpuset memory pids")
    hierarchy.make("n1")
    hierarchy.make("control-plane", weight=8)
    assert (tmp_path / "ours/n1/cpu.weight").read_text() == "100"
    assert (tmp_path / "ours/control-plane/cpu.weight").read_text() == "800"
