"""Markdown: headings, paragraphs, code and tables, each as it stands in the source."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Final

from perdure_documents.parsed import Block, Headings, Parsed, line_starts
from perdure_documents.plain import paragraphs

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

_FRONT_MATTER: Final = re.compile(r"---[ \t]*(?:\r\n|\n|\r)(?:.*(?:\r\n|\n|\r))*?---[ \t]*(?:\r\n|\n|\r|\Z)")
_WHOLE: Final = frozenset({"paragraph_open", "heading_open", "fence", "code_block", "html_block", "table_open"})
"""Tokens of blocks that hold no other blocks which would be of use by themselves."""
_WORD: Final = re.compile(r"\w")
_TITLE: Final = re.compile(r"^\s{0,3}#{1,6}\s+|\s+#+\s*$|\s*(?:\r\n|\n|\r)\s*[=-]+\s*$")


def parse_markdown(text: str) -> Parsed:
    """A document of CommonMark with tables. Front matter is passed over."""
    match = _FRONT_MATTER.match(text)
    front = match.end() if match else 0
    body = text[front:]
    lines = [front + start for start in line_starts(body)]
    return Parsed(text, tuple(_blocks(text, body, lines)))


def _blocks(text: str, body: str, lines: list[int]) -> Iterator[Block]:
    headings = Headings()
    done = 0
    for token in _parser().parse(body):
        if token.type not in _WHOLE or token.map is None or token.map[0] < done:
            continue
        first, behind = token.map[0], min(token.map[1], len(lines) - 1)
        yield from _left_out(text, lines[done], lines[first], headings.path)
        done = behind
        part = text[lines[first] : lines[behind]]
        start, end = lines[first] + len(part) - len(part.lstrip()), lines[first] + len(part.rstrip())
        if start >= end:
            continue
        if token.type == "heading_open":
            headings.enter(int(token.tag[1:]), _title(text[start:end]))
        yield Block(start, end, headings.path, is_heading=token.type == "heading_open")
    yield from _left_out(text, lines[done], lines[-1], headings.path)


def _left_out(text: str, start: int, end: int, headings: tuple[str, ...]) -> Iterator[Block]:
    """What the parser makes nothing of: above all what is nested deeper than it goes."""
    for block in paragraphs(text, start, end):
        if _WORD.search(text, block.start, block.end):
            yield replace(block, headings=headings)


def _title(source: str) -> str:
    return _TITLE.sub("", source).strip()


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt  # noqa: PLC0415 - where Markdown is read

    parser = MarkdownIt("commonmark").enable("table")
    # What is inside a block stays as it is written.
    parser.core.ruler.enableOnly(["normalize", "block"])
    return parser
