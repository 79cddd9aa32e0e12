"""The command as somebody types it who has Temporal, and a package that brings workflows."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from tests.cli import fork_server

ROOT = Path(__file__).parents[2]
POINTS = """[perdure.workflows]
greet = tests.control.factory.workflows:GREET
broken = no_such_package:X
"""


@dataclass(frozen=True)
class Said:
    status: int
    out: str
    err: str


Perdure = Callable[..., Awaitable[Said]]


def perdure_in(folder: Path) -> Perdure:
    """Types a command, with the package installed in a folder."""
    info = folder / "site" / "greetings-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greetings\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)

    async def types(*arguments: str, given: str = "", **environment: str) -> Said:
        path = [str(folder / "site"), str(ROOT), *sys.path]
        nowhere = {"TEMPORAL_CONFIG_FILE": str(folder / "none.toml"), "HOME": str(folder)}
        status, out, err = await fork_server.run(
            arguments, {**os.environ, **nowhere, **environment}, path, given.encode()
        )
        return Said(status, out.decode(), err.decode())

    return types
