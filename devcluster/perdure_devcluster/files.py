"""Files: written so that a power cut leaves the old content or the new, and kept small."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

_LOG_LIMIT_BYTES = 64 * 1024 * 1024


def write_atomically(path: Path, content: str | bytes, mode: int = 0o600) -> None:
    """Replace a file's content unless it is this already; its folder is made when it is missing."""
    data = content.encode() if isinstance(content, str) else content
    if path.exists() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    Path(name).chmod(mode)
    Path(name).replace(path)


def rotate(log: Path) -> None:
    """Put a log that has grown large aside; the one before it goes."""
    if log.exists() and log.stat().st_size > _LOG_LIMIT_BYTES:
        log.replace(log.with_suffix(".log.1"))
