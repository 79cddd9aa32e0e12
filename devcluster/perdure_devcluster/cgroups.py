"""One control group a node: its resources are counted, frozen and cleaned as one.

Control groups of version 1 only, one hierarchy a controller (see README).
"""

from __future__ import annotations

import os
from pathlib import Path

from perdure_devcluster.errors import DevclusterError
from perdure_devcluster.waiting import wait_for

ROOT = Path("/sys/fs/cgroup")
GROUP = "perdure-devcluster"
# `systemd` is the named hierarchy without a controller; runc wants it mounted.
CONTROLLERS = (
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "systemd",
)


def check_version() -> None:
    """Raise unless every controller has a hierarchy of its own."""
    missing = [name for name in CONTROLLERS if not (ROOT / name / "cgroup.procs").exists()]
    if missing:
        message = (
            f"found no control group hierarchy for {', '.join(missing)} in {ROOT}, expected"
            " version 1; boot with systemd.unified_cgroup_hierarchy=0, or use another machine"
        )
        raise DevclusterError(message)


def make(name: str, cpu_shares: int = 1024) -> list[Path]:
    """Make the group ``name`` in every hierarchy; return its cgroup.procs files.

    ``cpu_shares`` is its weight against the other groups when the CPUs are all busy.
    """
    for controller in CONTROLLERS:
        parent = ROOT / controller / GROUP
        for folder in (parent, parent / name):
            folder.mkdir(exist_ok=True)
            if controller == "cpuset":
                # A new cpuset is empty, and takes no process until it is filled.
                for file in ("cpuset.cpus", "cpuset.mems"):
                    (folder / file).write_text((folder.parent / file).read_text())
    (ROOT / "cpu" / GROUP / name / "cpu.shares").write_text(str(cpu_shares))
    return [ROOT / controller / GROUP / name / "cgroup.procs" for controller in CONTROLLERS]


def remove(name: str) -> None:
    """Remove a group that has no process left, with all groups below it.

    Left over ones would cost cAdvisor seconds each at the node's next start.
    """
    for controller in CONTROLLERS:
        top = ROOT / controller / GROUP / name
        for folder, _, _ in os.walk(top, topdown=False):
            _rmdir(Path(folder))


def remove_all() -> None:
    """Remove every group of ours."""
    for controller in CONTROLLERS:
        for folder, _, _ in os.walk(ROOT / controller / GROUP, topdown=False):
            _rmdir(Path(folder))


def freeze(name: str) -> None:
    """Stop every process of the group where it stands, and wait until they do."""
    _set_freezer(name, "FROZEN")


def thaw(name: str) -> None:
    """Let them go on."""
    _set_freezer(name, "THAWED")


def thaw_all() -> None:
    """Thaw every group of ours, whoever froze it: a frozen process cannot even be killed."""
    for folder in (ROOT / "freezer" / GROUP).glob("*/"):
        thaw(folder.name)


def is_frozen(name: str) -> bool:
    """Whether the group is frozen, or on its way there."""
    state = _freezer(name)
    return state.exists() and state.read_text().strip() != "THAWED"


def _freezer(name: str) -> Path:
    return ROOT / "freezer" / GROUP / name / "freezer.state"


def _set_freezer(name: str, wanted: str) -> None:
    def reached() -> bool:
        # Written again each time: a process that forked meanwhile holds it up.
        _freezer(name).write_text(wanted)
        return _freezer(name).read_text().strip() == wanted

    wait_for(reached, what=f"{name} to be {wanted}", timeout_seconds=15)


def _rmdir(folder: Path) -> None:
    def removed() -> bool:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            # The last processes of a killed node are still on their way out.
            return False
        return True

    wait_for(removed, what=f"the processes in {folder} to end", timeout_seconds=20)
