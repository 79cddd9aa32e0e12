"""Run a program and give back what it printed, or its failure as a sentence."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from perdure_devcluster.errors import CommandFailed

_LAST_LINES = 15
# `ip`, `nft` and the like, which an ordinary PATH does not name.
_SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"


def run(
    command: Sequence[str | Path],
    *,
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> str:
    """Return standard output; ``environment`` is added to our own."""
    argv = [str(word) for word in command]
    path = f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}"
    try:
        result = subprocess.run(
            argv,
            check=False,
            capture_output=True,
            text=True,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            env={**os.environ, **(environment or {}), "PATH": path},
            cwd=folder,
        )
    except FileNotFoundError as error:
        message = f"the program {argv[0]} was not found on PATH; install it and try again"
        raise CommandFailed(message) from error
    if result.returncode != 0:
        last_words = (result.stderr.strip() or result.stdout.strip()).splitlines()[-_LAST_LINES:]
        message = f"`{shlex.join(argv)}` ended with {result.returncode}:\n" + "\n".join(last_words)
        raise CommandFailed(message)
    return result.stdout


def succeeds(command: Sequence[str | Path]) -> bool:
    """Whether a program ends with 0; what it prints does not matter."""
    try:
        run(command)
    except CommandFailed:
        return False
    return True
