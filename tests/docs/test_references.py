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

WRITTEN_PAGES = [page for page in PAGES if not page.startswith("docs/reference/")]
"""Those that no program makes from the models."""


def test_every_link_leads_somewhere() -> None:
    assert [(page, link) for page in PAGES for link in links(page) if not _leads_somewhere(page, link)] == []


def test_every_path_into_the_repository_exists() -> None:
    named = [
        (page, word) for page in PAGES for word in _words(page, rf"(?<![\w./-])(?:{'|'.join(FOLDERS)})/[\w./-]*\w")
    ]

    assert named
    assert [(page, word) for page, word in named if not (ROOT / word).exists()] == []


def test_every_make_target_exists() -> None:
    named = {
        (page, target)
        for page in PAGES
        for code in code_words(page)
        for target in re.findall(rf"{COMMAND}make (?:-\w+ )?([a-z-]+)", code)
    }

    assert named
    assert {(page, target) for page, target in named if target not in TARGETS} == set()


def test_every_command_of_ours_exists_with_its_options() -> None:
    commands = [(page, command) for page in PAGES for command in _commands_of_ours(page)]

    assert commands
    for page, command in commands:
        _parse(page, command)


def test_every_value_of_the_chart_exists() -> None:
    named = [
        (page, path) for page, path in _dotted() if path.split(".")[0] in VALUES and not path.endswith(FILE_ENDINGS)
    ]

    assert named
    assert [(page, path) for page, path in named if not _is_value(path.split("."))] == []


def test_every_field_of_a_training_job_exists() -> None:
    of_spec = SCHEMA["properties"]["spec"]["properties"]
    heads = {"spec": "", "status": "", **dict.fromkeys(of_spec, "spec.")}
    named = [(page, f"{heads[head]}{path}") for page, path in _dotted() if (head := path.split(".")[0]) in heads]

    assert named
    assert [(page, path) for page, path in named if not _is_field(path.split("."), SCHEMA)] == []


def _leads_somewhere(page: str, link: str) -> bool:
    if re.match(r"[a-z]+:", link):
        return True  # out of the repository
    path, _, anchor = link.partition("#")
    target = (ROOT / page).parent / path if path else ROOT / page
    return target.exists() and (not anchor or anchor in anchors(target.resolve().relative_to(ROOT).as_posix()))


def _dotted() -> list[tuple[str, str]]:
    """Words with dots in them that are set as code, each with its page."""
    return [(page, path) for page in WRITTEN_PAGES for path in _words(page, DOTTED)]


def _words(page: str, pattern: str) -> set[str]:
    return {found for code in code_words(page) for found in re.findall(pattern, code)}


def _commands_of_ours(page: str) -> Iterator[list[str]]:
    for code in code_words(page):
        found = re.match(r"\s*(?:\S+=\S+ )*(?:\S*/|kubectl )?perdure( [^|;&#`]+)", code)
        if found:
            yield shlex.split(found[1])


def _parse(page: str, words: list[str]) -> None:
    """Lets click read the words of a page as it would, without doing anything."""
    name, *rest = words
    command = perdure.commands.get(name)
    while isinstance(command, click.Group):
        name, *rest = rest
        command = command.commands.get(name)
    assert command is not None, f"{page}: perdure {shlex.join(words)}"
    try:
        command.make_context(name, ["NAME" if word == "…" else word for word in rest])
    except click.UsageError as error:
        pytest.fail(f"{page}: perdure {shlex.join(words)}: {error.message}")


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
