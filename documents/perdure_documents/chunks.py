"""Blocks into chunks of about one size, with overlap, and with their places in the source."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from perdure_documents.formats import Format, decoded, format_of
from perdure_documents.html import parse_html
from perdure_documents.markdown import parse_markdown
from perdure_documents.parsed import Block, Parsed
from perdure_documents.pdf import parse_pdf
from perdure_documents.plain import parse_text
from perdure_documents.refusals import Problem, Refused

VERSION: Final = 1
"""Raised with every change by which a document would be cut otherwise: all are read again then."""

_DENSE: Final = "\u1100-\u11ff\u2e80-\ua4cf\uac00-\ud7af\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef"
"""Scripts that write no spaces, or a syllable to a character: models read about one token of each character there."""
_ATOM: Final = re.compile(rf"[{_DENSE}]|[^\s{_DENSE}]{{1,64}}")
_DENSE_CHARACTER: Final = re.compile(rf"[{_DENSE}]")
_DENSE_WEIGHT: Final = 4
"""Characters of Latin writing to a token."""
_SENTENCE_END: Final = re.compile("[.!?\u2026\u3002\uff01\uff1f][\"'\u201d\u2019)\\]\u00bb]*$")


@dataclass(frozen=True)
class Chunking:
    """How large chunks are, in characters of Latin writing; those of Chinese, Japanese and Korean count four times."""

    size: int = 1000
    overlap: int = 150
    """That a chunk has in common with the one before it, at most; none across headings."""

    def __post_init__(self) -> None:
        if not 0 <= self.overlap <= self.size // 2:
            raise ValueError(
                f"found an overlap of {self.overlap} for chunks of {self.size}; expected 0 to half of the chunks' size"
            )


@dataclass(frozen=True)
class Chunk:
    """A part of a document."""

    text: str
    start: int
    end: int
    """Its place, in characters: of the decoded source, or, of a PDF, of the text of its pages."""
    page: int | None
    """Of a PDF, from 1."""
    headings: tuple[str, ...]


def chunk_document(name: str, content: bytes, chunking: Chunking) -> list[Chunk]:
    """The chunks of a document, in its order.

    Raises:
        Refused: it cannot be read.
    """
    parsed = _parse(format_of(name, content), content)
    if not parsed.blocks:
        raise Refused(Problem.EMPTY, "holds no text; leave it out")
    return list(cut(parsed, chunking))


def cut(parsed: Parsed, chunking: Chunking) -> Iterator[Chunk]:
    """The chunks of a parsed document."""
    for section in _sections(parsed.blocks):
        for start, end in _windows(list(_atoms(parsed.text, section)), chunking):
            source_start, source_end = parsed.source_span(start, end)
            yield Chunk(parsed.text[start:end], source_start, source_end, parsed.page(start), section[-1].headings)


def _parse(format_: Format, content: bytes) -> Parsed:
    match format_:
        case Format.PDF:
            return parse_pdf(content)
        case Format.TEXT:
            return parse_text(decoded(content, format_))
        case Format.MARKDOWN:
            return parse_markdown(decoded(content, format_))
        case Format.HTML:
            return parse_html(decoded(content, format_))


def _sections(blocks: tuple[Block, ...]) -> Iterator[list[Block]]:
    """Blocks under the same headings, with these; a heading right under another goes with what follows."""
    section: list[Block] = []
    for block in blocks:
        if block.is_heading and section and not section[-1].is_heading:
            yield section
            section = []
        section.append(block)
    if section:
        yield section


@dataclass(frozen=True, slots=True)
class _Atom:
    """What is never cut: a word, or a character where words have no spaces between them."""

    start: int
    end: int
    weight: int
    ends: int
    """What ends with it: 0 itself, 1 a sentence, 2 a block."""


def _atoms(text: str, blocks: list[Block]) -> Iterator[_Atom]:
    for block in blocks:
        words = itertools.pairwise(itertools.chain(_ATOM.finditer(text, block.start, block.end), [None]))
        for word, following in words:
            if word is None:
                break
            dense = bool(_DENSE_CHARACTER.match(word[0]))
            ends = 2 if following is None else int(bool(_SENTENCE_END.search(word[0])))
            space = 0 if following is None or following.start() == word.end() else 1
            yield _Atom(word.start(), word.end(), _DENSE_WEIGHT if dense else len(word[0]) + space, ends)


def _windows(atoms: list[_Atom], chunking: Chunking) -> Iterator[tuple[int, int]]:
    """Spans of about the size that is wanted, which end with a block or a sentence where one ends late enough."""
    first = 0
    while first < len(atoms):
        last = _last(atoms, first, chunking.size)
        yield atoms[first].start, atoms[last].end
        if last == len(atoms) - 1:
            return
        first = _next_first(atoms, first, last, chunking.overlap)


def _last(atoms: list[_Atom], first: int, size: int) -> int:
    """The last atom of a chunk that begins with `first`."""
    weight = 0
    best, best_ends = first, -1
    for index in range(first, len(atoms)):
        weight += atoms[index].weight
        if weight > size and index > first:
            return best
        # An end in the last half will do, the strongest and latest of them; at worst that of a word.
        if weight * 2 > size and atoms[index].ends >= best_ends:
            best, best_ends = index, atoms[index].ends
        elif best_ends < 0:
            best = index
    return len(atoms) - 1


def _next_first(atoms: list[_Atom], first: int, last: int, overlap: int) -> int:
    """The first atom of the next chunk: at most so far back, and where it can be at the beginning of a sentence."""
    weight = 0
    earliest = last + 1
    while earliest - 1 > first and (weight := weight + atoms[earliest - 1].weight) <= overlap:
        earliest -= 1
    return next((index for index in range(earliest, last + 1) if atoms[index - 1].ends), earliest)
