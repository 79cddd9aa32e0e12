"""What the documentation names exists."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import click
import pytest
import yaml

from perdure_api.crd import PLAIN as CRD
from perdure_cli.main import perdure
from tests.docs.markdown import PAGES, ROOT, anchors, code_words, links

SCHEMA: dict[str, Any] = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
VALUES: dict[str, Any] = yaml.safe_load((ROOT / "charts" / "perdure" / "values.yaml").read_text())
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
MADE = {"build"}
FOLDERS = sorted({path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] != "."} - MADE)
DOTTED = r"[a-z]\w*(?:\.[a-zA-Z]\w*)+"
COMMAND = r"(?:^\s*|[&|(] *|=\S* )"
"""Where a command begins; messages, which are set as code too, may say "make room"."""
FILE_ENDINGS = (".json",)

pages = pytest.mark.parametrize("page", PAGES)
written_pages = pytest.mark.parametrize("page", [page for page in PAGES if not page.startswith("docs/reference/")])
"""Those that no program makes from the models."""


@pages
def test_every_link_leads_somewhere(page: str) -> None:
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.resolve().relative_to(ROOT).as_posix()), link


@pages
def test_every_path_into_the_repository_exists(page: str) -> None:
    for word in _words(page, rf"(?<![\w./-])(?:{'|'.join(FOLDERS)})/[\w./-]*\w"):
        assert (ROOT / word).exists(), word


@pages
def test_every_make_target_exists(page: str) -> None:
    named = {target for code in code_words(page) for target in re.findall(rf"{COMMAND}make (?:-\w+ )?([a-z-]+)", code)}

    assert named <= TARGETS


@pages
def test_every_command_of_ours_exists_with_its_options(page: str) -> None:
    for command in _commands_of_ours(page):
        _parse(command)


@written_pages
def test_every_value_of_the_chart_exists(page: str) -> None:
    for path in _words(page, DOTTED):
        if path.split(".")[0] in VALUES and not path.endswith(FILE_ENDINGS):
            assert _is_value(path.split(".")), path


@written_pages
def test_every_field_of_a_training_job_exists(page: str) -> None:
    of_spec = SCHEMA["properties"]["spec"]["properties"]
    for path in _words(page, DOTTED):
        head = path.split(".")[0]
        if head in {"spec", "status"}:
            assert _is_field(path.split("."), SCHEMA), path
        elif head in of_spec:
            assert _is_field(["spec", *path.split(".")], SCHEMA), path


def _words(page: str, pattern: str) -> set[str]:
    return {found for code in code_words(page) for found in re.findall(pattern, code)}


def _commands_of_ours(page: str) -> Iterator[list[str]]:
    for code in code_words(page):
        found = re.match(r"\s*(?:\S+=\S+ )*(?:\S*/|kubectl )?perdure( [^|;&#`]+)", code)
        if found:
            yield shlex.split(found[1])


def _parse(words: list[str]) -> None:
    """Lets click read the words as it would, without doing anything."""
    name, *rest = words
    command = perdure.commands.get(name)
    while isinstance(command, click.Group):
        name, *rest = rest
        command = command.commands.get(name)
    assert command is not None, f"perdure {shlex.join(words)}"
    try:
        command.make_context(name, ["NAME" if word == "…" else word for word in rest])
    except click.UsageError as error:
        pytest.fail(f"perdure {shlex.join(words)}: {error.message}")


def _is_value(path: list[str]) -> bool:
    values: Any = VALUES
    for key in path:
        if not isinstance(values, dict) or key not in values:
            return values == {}  # free form, such as objectStore.env
        values = values[key]
    return True


def _is_field(path: list[str], schema: dict[str, Any]) -> bool:
    if not path:
        return True
    schema = schema.get("items", schema)
    if "additionalProperties" in schema:
        return True
    fields = schema.get("properties", {})
    return path[0] in fields and _is_field(path[1:], fields[path[0]])
