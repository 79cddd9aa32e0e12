"""The machine-wide kernel settings that a kubelet changes, kept and put back."""

from __future__ import annotations

import json
from pathlib import Path

from perdure_devcluster.files import write_atomically
from perdure_devcluster.processes import boot_id

_ROOT = Path("/proc/sys")
_CHANGED_BY_KUBELET = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)


def note(file: Path) -> None:
    """Write down the settings, before the first kubelet of this boot."""
    if file.exists() and json.loads(file.read_text())["boot"] == boot_id():
        return
    values = {name: (_ROOT / name).read_text().strip() for name in _CHANGED_BY_KUBELET if (_ROOT / name).exists()}
    write_atomically(file, json.dumps({"boot": boot_id(), "values": values}))


def restore(file: Path) -> None:
    """Put the settings back; after a reboot the kernel has done so."""
    if not file.exists():
        return
    noted = json.loads(file.read_text())
    if noted["boot"] == boot_id():
        for name, value in noted["values"].items():
            path = _ROOT / name
            if path.read_text().strip() != value:
                path.write_text(value)
    file.unlink()
