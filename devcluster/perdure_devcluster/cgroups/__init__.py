"""One control group a node: its resources are counted, frozen and cleaned as one.

The kernel has two kinds of control groups and a machine is booted with one:
``v1`` and ``v2`` each know theirs, ``Hierarchy`` is all that others see of them.
"""

from __future__ import annotations

from perdure_devcluster.cgroups.hierarchy import Hierarchy, Mount
from perdure_devcluster.cgroups.v1 import V1
from perdure_devcluster.cgroups.v2 import V2

__all__ = ["Hierarchy", "Mount", "of_this_machine"]


def of_this_machine() -> Hierarchy:
    """The control groups that this machine was booted with.

    Where both are mounted (systemd's hybrid mode), the controllers are in those
    of version 1.
    """
    v2 = V2()
    return v2 if v2.is_mounted() else V1()
