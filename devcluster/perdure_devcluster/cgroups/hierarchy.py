"""What the rest of the cluster wants of control groups, of either version."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from perdure_devcluster.waiting import wait_for

ROOT = Path("/sys/fs/cgroup")
GROUP = "perdure-devcluster"


@dataclass(frozen=True)
class Mount:
    """One call of ``mount``; ``target`` is made where it is not there."""

    type: str
    options: str
    target: Path


class Hierarchy(Protocol):
    """Groups of ours, all below one, each with a name: ``control-plane``, ``n1``."""

    def check(self) -> None:
        """Raise when this machine lacks what a node needs."""

    def make(self, name: str, weight: int = 1) -> Sequence[Path]:
        """Make a group; a process enters it by writing 0 to each of the returned files.

        ``weight`` is its weight against the other groups when the CPUs are all busy.
        """

    def into_leaf(self, name: str) -> Sequence[str]:
        """What to put before the command of a node's first process; the group ``name`` is there.

        It runs when that group is the root of its control group namespace, and starts
        no other process: a launcher's first child is taken for the node.
        """

    def mounts(self) -> Sequence[Mount]:
        """The control groups as a node's daemons expect them, from inside its namespaces."""

    def remove(self, name: str) -> None:
        """Remove a group that has no process left, with all groups below it.

        Left over ones would cost cAdvisor seconds each at the node's next start.
        """

    def remove_all(self) -> None:
        """Remove every group of ours."""

    def freeze(self, name: str) -> None:
        """Stop every process of the group where it stands, and wait until they do."""

    def thaw(self, name: str) -> None:
        """Let them go on."""

    def thaw_all(self) -> None:
        """Thaw every group of ours, whoever froze it: a frozen process may not even be killed."""

    def is_frozen(self, name: str) -> bool:
        """Whether the group is frozen, or on its way there."""


def remove_tree(top: Path) -> None:
    """Remove a folder of control groups, the lowest first; none there is fine."""
    for folder, _, _ in os.walk(top, topdown=False):
        _rmdir(Path(folder))


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
