"""Whether the kernel has killed for memory here: whoever is killed cannot say so, but the next attempt can."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from perdure_api.model import TolerantModel

_CGROUPS: Final = Path("/sys/fs/cgroup")
_PROCESS: Final = Path("/proc/self/cgroup")
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


class MemoryKills(TolerantModel):
    """How many processes of a cgroup the kernel has killed for memory so far."""

    group: str
    """Which cgroup: one that is made anew under the same name is another."""
    count: int


def kills_here(cgroups: Path = _CGROUPS, process: Path = _PROCESS, boot: Path = _BOOT) -> MemoryKills | None:
    """Those in the cgroup of this process; None where the kernel does not count them."""
    try:
        counter = _counter(cgroups, process.read_text())
        count = re.search(r"^oom_kill (\d+)$", counter.read_text(), re.MULTILINE)
        group = f"{boot.read_text().strip()} {counter.stat().st_ino}"
    except OSError:
        return None
    return MemoryKills(group=group, count=int(count[1])) if count else None


def killed_since(before: MemoryKills | None, now: MemoryKills | None) -> int:
    """How many were killed between two looks; 0 where they cannot be compared."""
    if before is None or now is None or before.group != now.group:
        return 0
    return now.count - before.count


def _counter(cgroups: Path, membership: str) -> Path:
    """The file with the count, of version 1 or 2 of cgroups; a container may see its own group as the root."""
    groups = dict(line.split(":", 2)[1:] for line in membership.splitlines() if line.count(":") > 1)
    version_1 = next((path for names, path in groups.items() if "memory" in names.split(",")), None)
    base, path, name = (
        (cgroups, groups.get("", "/"), "memory.events")
        if version_1 is None
        else (cgroups / "memory", version_1, "memory.oom_control")
    )
    own = base / path.lstrip("/") / name
    return own if own.exists() else base / name
