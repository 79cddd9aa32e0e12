"""Raw results, tables and a picture, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from bench.cluster.errors import BenchError

MUST_AGREE: Final = (
    *("cpu", "cpus", "kubernetes", "perdure", "workers", "temporal", "postgresql", "filesystem"),
    *("jobs", "minutes"),
)
"""Conditions under which figures may stand in one table."""


def text(conditions: str, tables: Iterable[tuple[str, str]]) -> str:
    """What is measured under which conditions, in Markdown."""
    return "\n\n".join([conditions, *(f"{title}:\n\n{table}" for title, table in tables)]) + "\n"


def beside(path: Path, markdown: str, picture: bytes | None) -> None:
    """Writes tables and picture beside the raw results."""
    path.with_suffix(".md").write_text(markdown)
    if picture:
        path.with_suffix(".png").write_bytes(picture)


def show(path: Path) -> int:
    """Prints the tables; the exit code of a benchmark that is done."""
    print("\n" + path.with_suffix(".md").read_text())
    print(f"Raw results: {path}; as a picture: {path.with_suffix('.png')}")
    return 0


def require_same(before: Mapping[str, Any], now: Mapping[str, Any], path: Path) -> None:
    """Refuses to go on elsewhere, or with something else.

    Raises:
        BenchError: the results were measured under other conditions.
    """
    for fact in MUST_AGREE:
        if before.get(fact) != now.get(fact):
            raise BenchError(
                f"{path} was measured with {fact} {before.get(fact)}, here it is {now.get(fact)}; measure anew, "
                "without --go-on"
            )
