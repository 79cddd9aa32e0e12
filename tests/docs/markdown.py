"""The documentation as its readers see it: code blocks, words set as code, links and the places they lead to."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "charts/*/README.md", "devcluster/README.md")
    for path in ROOT.glob(pattern)
)


@dataclass(frozen=True)
class Block:
    """A fenced code block."""

    page: str
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


@cache
def _tokens(page: str) -> tuple[Token, ...]:
    return tuple(MarkdownIt("commonmark").enable("table").parse((ROOT / page).read_text()))


def blocks(*languages: str) -> list[Block]:
    """The fenced blocks of all pages, of some languages or of any."""
    return [
        Block(page, token.map[0] + 1 if token.map else 0, token.info.strip(), token.content)
        for page in PAGES
        for token in _tokens(page)
        if token.type == "fence" and (not languages or token.info.strip() in languages)
    ]


def _inline(page: str) -> Iterator[Token]:
    for token in _tokens(page):
        yield from token.children or []


def code_words(page: str) -> list[str]:
    """What is set as code within sentences, and the lines of code blocks that hold no program."""
    words = [token.content for token in _inline(page) if token.type == "code_inline"]
    for token in _tokens(page):
        if token.type in {"fence", "code_block"} and token.info.strip() != "python":
            words += token.content.replace("\\\n", " ").splitlines()
    return words


def table_rows(page: str) -> list[list[list[str]]]:
    """The tables of a page: the rows below each head, as the text of their cells."""
    tables: list[list[list[str]]] = []
    for before, token in itertools.pairwise(_tokens(page)):
        if token.type == "tbody_open":
            tables.append([])
        elif token.type == "tr_open" and before.type != "thead_open":
            tables[-1].append([])
        elif before.type == "td_open":
            tables[-1][-1].append(token.content)
    return tables


def links(page: str) -> list[str]:
    """Where the links of a page lead to."""
    return [str(token.attrs["href"]) for token in _inline(page) if token.type == "link_open"]


def anchors(page: str) -> set[str]:
    """What can be written after `#` to reach a heading, by GitHub's rule."""
    tokens = _tokens(page)
    titles = [title.content for opening, title in itertools.pairwise(tokens) if opening.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
