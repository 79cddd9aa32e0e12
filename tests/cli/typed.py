"""The command as somebody types it who has Temporal, and a package that brings workflows."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

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
        path = os.pathsep.join([str(folder / "site"), str(ROOT), *sys.path])
        nowhere = {"TEMPORAL_CONFIG_FILE": str(folder / "none.toml"), "HOME": str(folder)}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "perdure_cli", *arguments,
            env={**os.environ, **nowhere, "PYTHONPATH": path, **environment},
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(50):
            out, err = await process.communicate(given.encode())
        return Said(process.returncode or 0, out.decode(), err.decode())

    return types
