"""Each promise of docs/reliability.md names the test that shows it."""

from __future__ import annotations

import ast
import re
from functools import cache

from tests.docs.markdown import ROOT, code_words, links, table_rows

PAGE = "docs/reliability.md"
TEST = re.compile(r"(tests/[\w/]+\.py)::([\w:]+)")
NAMED = sorted({word for word in code_words(PAGE) if "::" in word})
ROWS = [row for table in table_rows(PAGE) for row in table]


def test_every_test_that_is_named_exists() -> None:
    assert [name for name in NAMED if not _exists(name)] == []


def _exists(name: str) -> bool:
    path, _, function = name.partition("::")
    return TEST.fullmatch(name) is not None and function in claims_of(path)


@cache
def claims_of(path: str) -> set[str]:
    """The test functions of a file, those of a class with its name before them."""
    body = ast.parse((ROOT / path).read_text()).body
    classes = {each.name: each.body for each in body if isinstance(each, ast.ClassDef)}
    functions = {*functions_of(body), *(f"{name}::{each}" for name in classes for each in functions_of(classes[name]))}
    return {each for each in functions if each.rpartition("::")[2].startswith("test_")}


def functions_of(body: list[ast.stmt]) -> list[str]:
    return [each.name for each in body if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))]


def test_every_row_names_a_test_and_each_once() -> None:
    assert ROWS
    assert [row[0] for row in ROWS if not _names_tests(row)] == []


def _names_tests(row: list[str]) -> bool:
    """In its last cell and nowhere else, none of them twice."""
    named = TEST.findall(row[-1])
    return bool(named) and len(named) == len(set(named)) and not any(TEST.search(cell) for cell in row[:-1])


def test_readers_find_it() -> None:
    assert PAGE in links("README.md")
    assert "reliability.md" in links("docs/concepts.md")
