"""Temporal's server and its schema tool, built from their Go module; kept outside the checkout by what it pins."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.cluster.errors import BenchError
from perdure_devcluster.binaries import PLAIN_FLAGS, built
from perdure_devcluster.errors import DevclusterError
from perdure_devcluster.paths import paths_from_environment

VERSION: Final = "1.32.0"
"""That of bench/temporal/go/go.mod: the one that the pinned `temporal` program has within it."""
MODULE: Final = Path(__file__).with_name("go")
_PACKAGES: Final = {
    "temporal-server": "go.temporal.io/server/cmd/server",
    "temporal-sql-tool": "go.temporal.io/server/cmd/tools/sql",
}


@dataclass(frozen=True)
class Programs:
    """Both."""

    server: Path
    sql_tool: Path


def programs() -> Programs:
    """Both, from the cache or built now (some minutes on two cores).

    Raises:
        BenchError: there is no Go, or it failed.
    """
    cache = paths_from_environment(os.environ).cache / "temporal"
    what = f"Temporal {VERSION} (first time: some minutes)"
    try:
        folder = built(MODULE, _PACKAGES, PLAIN_FLAGS, cache, what)
    except DevclusterError as error:
        raise BenchError(f"Temporal's server could not be built: {error}") from error
    return Programs(*(folder / name for name in _PACKAGES))
