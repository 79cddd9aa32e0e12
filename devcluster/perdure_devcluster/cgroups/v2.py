"""Control groups of version 2: one hierarchy for all controllers.

Only leaves may hold processes once controllers are handed down. A node's group
is the root of its namespace, where the kubelet makes groups for the pods, so
the daemons run in a leaf beside those: ``perdure-devcluster/n1/init``.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from perdure_devcluster.cgroups.hierarchy import GROUP, ROOT, Mount, remove_tree
from perdure_devcluster.errors import DevclusterError
from perdure_devcluster.waiting import wait_for

# What a kubelet does not start without.
REQUIRED = ("cpu", "cpuset", "memory", "pids")
# What it makes use of where it is there.
OPTIONAL = ("io", "hugetlb")
_LEAF = "init"
_DEFAULT_WEIGHT = 100


@dataclass(frozen=True)
class V2:
    """See ``Hierarchy``."""

    root: Path = ROOT
    group: str = GROUP

    def is_mounted(self) -> bool:
        """Whether there is such a hierarchy at ``root``."""
        return (self.root / "cgroup.controllers").exists()

    def check(self) -> None:
        """Raise unless every controller that a kubelet needs can be handed down."""
        missing = [name for name in REQUIRED if name not in self._controllers()]
        if missing:
            message = (
                f"found no {', '.join(missing)} in {self.root}/cgroup.controllers, expected"
                f" {', '.join(REQUIRED)}; boot without cgroup_disable= (some boards: with"
                " cgroup_enable=memory), or, in a container, give it all controllers"
            )
            raise DevclusterError(message)

    def make(self, name: str, weight: int = 1) -> list[Path]:
        """Make the group, with every controller."""
        ours = self.root / self.group
        ours.mkdir(exist_ok=True)
        self._hand_down(self.root)
        # systemd takes a controller back from the root when no unit of its own
        # wants it, but not while a group below hands it on.
        self._hand_down(ours)
        self._folder(name).mkdir(exist_ok=True)
        if "cpu" in self._controllers():
            (self._folder(name) / "cpu.weight").write_text(str(weight * _DEFAULT_WEIGHT))
        return [self._folder(name) / "cgroup.procs"]

    def into_leaf(self, name: str) -> Sequence[str]:
        """Move into the leaf: the kubelet cannot hand down the root's controllers while it holds processes."""
        leaf = self._folder(name) / _LEAF
        leaf.mkdir(exist_ok=True)
        return ("/bin/sh", "-c", 'echo 0 > "$0" && exec "$@"', str(leaf / "cgroup.procs"))

    def mounts(self) -> list[Mount]:
        """The one hierarchy, from the node's group down."""
        return [Mount("cgroup2", "rw", ROOT)]

    def remove(self, name: str) -> None:
        """Remove the group and those below."""
        remove_tree(self._folder(name))

    def remove_all(self) -> None:
        """Remove our group and those below."""
        remove_tree(self.root / self.group)

    def freeze(self, name: str) -> None:
        """Freeze it and all below it."""
        self._set_frozen(name, "1")

    def thaw(self, name: str) -> None:
        """Thaw it."""
        self._set_frozen(name, "0")

    def thaw_all(self) -> None:
        """Thaw what is there."""
        for folder in (self.root / self.group).glob("*/"):
            self.thaw(folder.name)

    def is_frozen(self, name: str) -> bool:
        """Whether it was told to freeze."""
        file = self._folder(name) / "cgroup.freeze"
        return file.exists() and file.read_text().strip() == "1"

    def _folder(self, name: str) -> Path:
        return self.root / self.group / name

    def _controllers(self) -> list[str]:
        offered = (self.root / "cgroup.controllers").read_text().split()
        return [name for name in (*REQUIRED, *OPTIONAL) if name in offered]

    def _hand_down(self, folder: Path) -> None:
        words = [f"+{name}" for name in self._controllers()]
        try:
            (folder / "cgroup.subtree_control").write_text(" ".join(words))
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            # Only the machine's own root group is free of this rule.
            message = (
                f"found processes in the control group {folder}, expected none, as its controllers"
                " are handed down from there; is this a container? Move them into a group below"
                " first, or run the cluster on the machine itself"
            )
            raise DevclusterError(message) from error

    def _set_frozen(self, name: str, wanted: str) -> None:
        folder = self._folder(name)
        (folder / "cgroup.freeze").write_text(wanted)

        def reached() -> bool:
            return f"frozen {wanted}" in (folder / "cgroup.events").read_text().splitlines()

        wait_for(reached, what=f"{name} to be {'frozen' if wanted == '1' else 'thawed'}", timeout_seconds=15)
