"""Plain text: paragraphs between blank lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from perdure_documents.parsed import Block, Parsed

_BLANK: Final = re.compile(r"(?:\r\n|\n|\r)[ \t]*(?:\r\n|\n|\r)\s*|\f")


def parse_text(text: str) -> Parsed:
    """A document without marks."""
    return Parsed(text, tuple(paragraphs(text, 0, len(text))))


def paragraphs(text: str, start: int, end: int) -> Iterator[Block]:
    """Those of a part of a text, without the white space around them."""
    begin = start
    for blank in _BLANK.finditer(text, start, end):
        yield from _stripped(text, begin, blank.start())
        begin = blank.end()
    yield from _stripped(text, begin, end)


def _stripped(text: str, start: int, end: int) -> Iterator[Block]:
    part = text[start:end]
    if kept := part.strip():
        begin = start + len(part) - len(part.lstrip())
        yield Block(begin, begin + len(kept))
