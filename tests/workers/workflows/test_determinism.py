"""What workflows run is told twice: as it happens, and again when another worker takes it over. Nothing may differ.

Temporal's sandbox looks at this only where it imports a module for itself. Ours are imported once for all workflows,
and pass it by; so their source is looked through, that of everything they import of ours with them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[3]
ROOMS: Final = {"perdure_workers": ROOT / "workers", "perdure_api": ROOT / "api", "perdure_control": ROOT / "control"}
WORKFLOWS: Final = ROOT / "workers/perdure_workers/workflows"
OUTSIDE: Final = frozenset(
    {"aiohttp", "io", "kubernetes", "os", "pathlib", "random", "secrets", "shutil", "socket", "subprocess", "tempfile",
     "threading", "time", "uuid"}
)  # fmt: skip
"""Packages by which more than the history says comes in."""
CLOCKS: Final = frozenset({"now", "today", "utcnow"})
OF_CLOCKS: Final = frozenset({"date", "datetime"})


def imported(tree: ast.AST) -> Iterator[str]:
    """Modules that a source imports, and names of modules, perhaps no modules themselves."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (each.name for each in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield module
                yield from (f"{module}.{each.name}" for each in names)


def chance(tree: ast.AST) -> Iterator[str]:
    """What of a source may be another thing the second time."""
    yield from sorted({package for name in imported(tree) if (package := name.partition(".")[0]) in OUTSIDE})
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=name) | ast.Attribute(attr=name), attr=attr) if (
                name in OF_CLOCKS and attr in CLOCKS
            ):
                yield f"{name}.{attr}"
            case ast.Call(func=ast.Name(id="open" | "input" as name)):
                yield name


def source_of(module: str) -> Path | None:
    """None: it is no module of ours."""
    package, *_ = parts = module.split(".")
    if package not in ROOMS:
        return None
    place = ROOMS[package].joinpath(*parts)
    found = (place / "__init__.py", place.with_suffix(".py"))
    return next((each for each in found if each.is_file()), None)


def sources() -> dict[str, ast.Module]:
    """Modules of the workflows, and all of ours that they import."""
    found: dict[str, ast.Module] = {}
    left = [f"perdure_workers.workflows.{each.stem}" for each in WORKFLOWS.glob("*.py") if each.stem != "__init__"]
    while left:
        module = left.pop()
        if module not in found and (source := source_of(module)):
            found[module] = ast.parse(source.read_text())
            left += imported(found[module])
    return found


def test_nothing_that_a_workflow_runs_may_come_out_differently_the_second_time() -> None:
    looked_through = sources()

    assert {"perdure_workers.workflows.training", "perdure_workers.story", "perdure_api.status"} <= set(looked_through)
    assert {module: found for module, tree in looked_through.items() if (found := list(chance(tree)))} == {}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import time", "time"),
        ("from random import choice", "random"),
        ("import os.path", "os"),
        ("from datetime import datetime\ndatetime.now()", "datetime.now"),
        ("import datetime as dt\ndt.datetime.utcnow()", "datetime.utcnow"),
        ("from datetime import date\ndate.today()", "date.today"),
        ("open('a')", "open"),
    ],
)
def test_what_may_come_out_differently_is_found(source: str, found: str) -> None:
    assert list(chance(ast.parse(source))) == [found]


@pytest.mark.parametrize(
    "source", ["from temporalio import workflow\nworkflow.now()", "import asyncio\nasyncio.sleep(1)"]
)
def test_what_temporal_answers_from_the_history_is_no_chance(source: str) -> None:
    assert list(chance(ast.parse(source))) == []
