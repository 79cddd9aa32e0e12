"""Control groups of version 1: one hierarchy a controller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from perdure_devcluster.cgroups.hierarchy import GROUP, ROOT, Mount, remove_tree
from perdure_devcluster.errors import DevclusterError
from perdure_devcluster.waiting import wait_for

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
_DEFAULT_SHARES = 1024


@dataclass(frozen=True)
class V1:
    """See ``Hierarchy``."""

    root: Path = ROOT
    group: str = GROUP

    def check(self) -> None:
        """Raise unless every controller has a hierarchy of its own."""
        missing = [name for name in CONTROLLERS if not (self.root / name / "cgroup.procs").exists()]
        if missing:
            message = (
                f"found no control group hierarchy for {', '.join(missing)} in {self.root}, expected"
                " one for each controller (version 1) or one for all (version 2); boot with"
                " systemd.unified_cgroup_hierarchy=1, or use another machine"
            )
            raise DevclusterError(message)

    def make(self, name: str, weight: int = 1) -> list[Path]:
        """Make the group in every hierarchy."""
        for controller in CONTROLLERS:
            parent = self.root / controller / self.group
            for folder in (parent, parent / name):
                folder.mkdir(exist_ok=True)
                if controller == "cpuset":
                    # A new cpuset is empty, and takes no process until it is filled.
                    for file in ("cpuset.cpus", "cpuset.mems"):
                        (folder / file).write_text((folder.parent / file).read_text())
        (self._folder("cpu", name) / "cpu.shares").write_text(str(weight * _DEFAULT_SHARES))
        return [self._folder(controller, name) / "cgroup.procs" for controller in CONTROLLERS]

    def into_leaf(self, name: str) -> Sequence[str]:  # noqa: ARG002 (v2's)
        """Nothing: a group may hold processes and groups."""
        return ()

    def mounts(self) -> list[Mount]:
        """Each hierarchy in a folder of its own."""
        return [
            Mount("tmpfs", "mode=755", ROOT),
            *(Mount("cgroup", "none,name=systemd" if name == "systemd" else name, ROOT / name) for name in CONTROLLERS),
        ]

    def remove(self, name: str) -> None:
        """Remove the group from every hierarchy."""
        for controller in CONTROLLERS:
            remove_tree(self._folder(controller, name))

    def remove_all(self) -> None:
        """Remove our group from every hierarchy."""
        for controller in CONTROLLERS:
            remove_tree(self.root / controller / self.group)

    def freeze(self, name: str) -> None:
        """Freeze by the freezer."""
        self._set_freezer(name, "FROZEN")

    def thaw(self, name: str) -> None:
        """Thaw by the freezer."""
        self._set_freezer(name, "THAWED")

    def thaw_all(self) -> None:
        """Thaw what is there: a frozen process takes no signal, not even SIGKILL."""
        for folder in (self.root / "freezer" / self.group).glob("*/"):
            self.thaw(folder.name)

    def is_frozen(self, name: str) -> bool:
        """Whether it is FROZEN or FREEZING."""
        state = self._freezer(name)
        return state.exists() and state.read_text().strip() != "THAWED"

    def _folder(self, controller: str, name: str) -> Path:
        return self.root / controller / self.group / name

    def _freezer(self, name: str) -> Path:
        return self._folder("freezer", name) / "freezer.state"

    def _set_freezer(self, name: str, wanted: str) -> None:
        def reached() -> bool:
            # Written again each time: a process that forked meanwhile holds it up.
            self._freezer(name).write_text(wanted)
            return self._freezer(name).read_text().strip() == wanted

        wait_for(reached, what=f"{name} to be {wanted}", timeout_seconds=15)
