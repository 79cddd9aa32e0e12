"""HTML: what a reader sees of it, block by block, with the place of each word in the source.

Python's own parser: it builds no tree, so that no nesting is too deep for it; it expands no entity that is not one
character or two, so that none is too large; and it tells where everything stands, which faster parsers do not.
"""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from typing import Final

from perdure_documents.parsed import Block, Headings, Parsed, Run
from perdure_documents.refusals import Problem, Refused

_UNSEEN: Final = frozenset(
    {
        "script", "style", "template", "title", "svg", "math", "noscript", "iframe", "object", "select",
    }
)  # fmt: skip
_BLOCKS: Final = frozenset(
    {
        "address", "article", "aside", "blockquote", "body", "caption", "dd", "details", "dialog", "div",
        "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6",
        "header", "hr", "html", "legend", "li", "main", "nav", "ol", "p", "pre", "section", "summary",
        "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul",
    }
)  # fmt: skip
_CELLS: Final = frozenset({"td", "th"})
_HEADINGS: Final = {f"h{level}": level for level in range(1, 7)}
_WORDS: Final = re.compile(r"\S+(?: \S+)*")
_BETWEEN_BLOCKS: Final = "\n\n"
_NAME_CHARACTERS: Final = 40
"""The longest name has 31."""


def parse_html(source: str) -> Parsed:
    """What is seen of a page.

    Raises:
        Refused: nothing is.
    """
    reader = _Reader(source)
    reader.feed(source)
    reader.close()
    return reader.parsed()


class _Reader(HTMLParser):
    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=False)
        self._source = source
        # As the parser counts them.
        self._lines = [0, *(match.end() for match in re.finditer("\n", source))]
        self._pieces: list[str] = []
        self._length = 0
        self._runs: list[Run] = []
        self._blocks: list[Block] = []
        self._block_starts_at = 0
        self._block_starts_with = 0
        self._space = False
        self._unseen: tuple[str, int] | None = None
        self._preformatted = 0
        self._headings = Headings()
        self._heading: int | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        if self._unseen:
            if tag == self._unseen[0]:
                self._unseen = (tag, self._unseen[1] + 1)
        elif tag in _UNSEEN:
            self._unseen = (tag, 1)
        elif tag in _CELLS:
            self._space = True
        elif tag == "br":
            self._gap("\n")
        elif tag in _BLOCKS:
            self._end_block()
            self._heading = _HEADINGS.get(tag)
            self._preformatted += tag == "pre"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # `<script/>` opens nothing that anything would close.
        if tag not in _UNSEEN:
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if self._unseen:
            if tag == self._unseen[0]:
                depth = self._unseen[1] - 1
                self._unseen = (tag, depth) if depth else None
        elif tag in _BLOCKS and tag not in _CELLS:
            self._end_block()
            self._heading = None
            if tag == "pre":
                self._preformatted = max(0, self._preformatted - 1)

    def handle_data(self, data: str) -> None:
        if self._unseen:
            return
        place = self._place()
        if self._preformatted:
            for index, line in enumerate(data.splitlines(keepends=True)):
                if index or line.startswith(("\r", "\n")):
                    self._gap("\n")
                if kept := line.rstrip("\r\n"):
                    self._add(kept, place, place + len(kept))
                place += len(line)
            return
        self._space |= data[:1].isspace()
        for words in _WORDS.finditer(data):
            if words.start():
                self._space = True
            self._add(words[0], place + words.start(), place + words.end())
        self._space |= data[-1:].isspace()

    def handle_entityref(self, name: str) -> None:
        self._character(name)

    def handle_charref(self, name: str) -> None:
        self._character(f"#{name}")

    def parsed(self) -> Parsed:
        self._end_block()
        if not self._blocks:
            raise Refused(
                Problem.EMPTY, "shows no text; a page whose text a script puts in is to be saved from a browser"
            )
        return Parsed("".join(self._pieces), tuple(self._blocks), tuple(self._runs))

    def _character(self, name: str) -> None:
        """One that is written by its name or number; the semicolon may be left out."""
        if self._unseen:
            return
        place = self._place()
        behind = place + 1 + len(name)
        # The number of a character with thousands of digits is none, and takes Python long to read.
        reads = html.unescape(f"&{name};") if len(name) <= _NAME_CHARACTERS else "\ufffd"
        if reads.isspace():
            self._space = True
        else:
            self._add(reads.replace("\0", "\ufffd"), place, behind + self._source.startswith(";", behind))

    def _place(self) -> int:
        line, column = self.getpos()
        return self._lines[line - 1] + column

    def _gap(self, gap: str) -> None:
        if self._block_starts_at < self._length:
            self._put(gap)
        self._space = False

    def _add(self, words: str, source_start: int, source_end: int) -> None:
        if self._space and self._block_starts_at < self._length and not self._pieces[-1].endswith("\n"):
            self._put(" ")
        self._space = False
        self._runs.append(Run(self._length, self._length + len(words), source_start, source_end))
        self._put(words)

    def _put(self, words: str) -> None:
        self._pieces.append(words)
        self._length += len(words)

    def _end_block(self) -> None:
        self._space = False
        text = "".join(self._pieces[self._block_starts_with :])
        if text:
            if self._heading:
                self._headings.enter(self._heading, text.strip())
            start = self._block_starts_at
            self._blocks.append(Block(start, start + len(text), self._headings.path, is_heading=bool(self._heading)))
            self._put(_BETWEEN_BLOCKS)
        self._block_starts_at = self._length
        self._block_starts_with = len(self._pieces)
