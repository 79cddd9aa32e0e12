"""A document's text, its blocks, and where each stands in the source."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import Final

_LINE_BREAK: Final = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True)
class Block:
    """A paragraph, a heading, a piece of code, a table: what belongs together. Its span is in the document's text."""

    start: int
    end: int
    headings: tuple[str, ...] = ()
    """Under which it stands, the outermost first."""
    is_heading: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """A part of a text that stands in the source as one piece."""

    start: int
    end: int
    """In the text."""
    source_start: int
    source_end: int

    def source_span(self, start: int, end: int) -> tuple[int, int]:
        """Where a part of it stands. What reads otherwise than it is written, as `&amp;` does, counts whole."""
        if self.end - self.start != self.source_end - self.source_start:
            return self.source_start, self.source_end
        shift = self.source_start - self.start
        return max(start, self.start) + shift, min(end, self.end) + shift


@dataclass(frozen=True)
class Parsed:
    """What a parser makes of a document."""

    text: str
    blocks: tuple[Block, ...]
    runs: tuple[Run, ...] = ()
    """In order; none: the text is the source. Between them stands what is in the text only, such as a space."""
    page_starts: tuple[int, ...] = ()
    """Where in the text each page begins; none: the document has no pages."""

    def source_span(self, start: int, end: int) -> tuple[int, int]:
        """Where in the source a span of the text stands: from its first character up to behind its last one."""
        if not self.runs:
            return start, end
        first = max(0, bisect_right(self.runs, start, key=_start) - 1)
        if self.runs[first].end <= start and first + 1 < len(self.runs):
            first += 1
        last = max(first, bisect_right(self.runs, end - 1, key=_start) - 1)
        return self.runs[first].source_span(start, end)[0], self.runs[last].source_span(start, end)[1]

    def page(self, place: int) -> int | None:
        """The page of a place in the text, from 1."""
        return bisect_right(self.page_starts, place) if self.page_starts else None


def _start(run: Run) -> int:
    return run.start


class Headings:
    """Those that hold at a place, kept up to date from the beginning of a document to its end."""

    def __init__(self) -> None:
        self._open: list[tuple[int, str]] = []

    def enter(self, level: int, title: str) -> None:
        """A heading ends those of its level and below."""
        self._open = [*(each for each in self._open if each[0] < level), (level, title)]

    @property
    def path(self) -> tuple[str, ...]:
        """The outermost first."""
        return tuple(title for _, title in self._open)


def line_starts(text: str) -> list[int]:
    """Where each line begins, after LF, CR LF or CR and after nothing else; the last is the end of the text."""
    starts = [0, *(match.end() for match in _LINE_BREAK.finditer(text))]
    return starts if starts[-1] == len(text) else [*starts, len(text)]
