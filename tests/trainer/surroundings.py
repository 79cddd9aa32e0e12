"""Poor places to run in, for one process alone: little memory, a small disk, a folder that may only be read."""

from __future__ import annotations

import ctypes
import os
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_NEW_NAMESPACE, _NEW_USER = 0x20000, 0x10000000
_READ_ONLY, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 0x1, 0x20, 0x1000, 0x4000, 0x40000
_libc: Final = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Surroundings:
    """What is poor here; by default nothing."""

    memory_bytes: int | None = None
    """Address space that may be taken beyond what is taken already."""
    small_disk: tuple[Path, int] | None = None
    """A folder on a file system of its own, with so many bytes."""
    read_only: Path | None = None
    """A folder that nothing may be written to."""

    cgroups: Path | None = None
    """What the system says of control groups, as a folder."""

    def settle(self) -> None:
        """Moves this process there, for good. Others see nothing of it. The process must have one thread."""
        if self.memory_bytes is not None:
            taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (taken + self.memory_bytes, resource.RLIM_INFINITY))
        if self.small_disk or self.read_only or self.cgroups:
            _leave_mounts()
        if self.small_disk:
            folder, size_bytes = self.small_disk
            _mount("tmpfs", folder, "tmpfs", 0, f"size={size_bytes}")
        if self.read_only:
            _mount(str(self.read_only), self.read_only, None, _BIND)
            _mount(None, self.read_only, None, _BIND | _REMOUNT | _READ_ONLY)
        if self.cgroups:
            _mount(str(self.cgroups), Path("/sys/fs/cgroup"), None, _BIND)


def _leave_mounts() -> None:
    """From here on, this process has mounts of its own; whoever is not root becomes that among them."""
    user, group = os.geteuid(), os.getegid()
    _must(_libc.unshare(_NEW_NAMESPACE if user == 0 else _NEW_NAMESPACE | _NEW_USER))
    if user != 0:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    _mount(None, Path("/"), None, _RECURSIVE | _PRIVATE)


def _mount(source: str | None, target: Path, kind: str | None, flags: int, options: str = "") -> None:
    target.mkdir(parents=True, exist_ok=True)
    texts = [None if text is None else text.encode() for text in (source, str(target), kind, options or None)]
    _must(_libc.mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3]))


def _must(answer: int) -> None:
    if answer != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
