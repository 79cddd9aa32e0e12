"""Plain text: one document a file."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import Final

from perdure_data.datasets.errors import DatasetBroken
from perdure_data.datasets.extract import Extract
from perdure_data.datasets.formats import refuse_magic
from perdure_data.datasets.records import Passage
from perdure_data.datasets.wording import not_utf8

PASSAGE_CHARACTERS: Final = 2**16
"""Plain text is handed on in passages of about this size."""

_CONTINUATION_BYTES: Final = bytes(range(0x80, 0xC0))


def text_passages(extract: Extract) -> Iterator[Passage]:
    """The passages of a part of a text file.

    Raises:
        DatasetBroken: with URI and line (or byte, where lines were not counted from the start).
    """
    decoder, where = _Decoder(extract), f"dataset {extract.uri}"
    text = ""
    for chunk in extract.chunks:
        *whole, text = _cut(text + decoder.decoded(chunk))
        yield from (Passage(piece, ends_document=False, where=where) for piece in whole)
    decoder.refuse_cut_character()
    if text:
        yield Passage(text, ends_document=True, where=where)


class _Decoder:
    """From bytes to characters, knowing where it is."""

    def __init__(self, extract: Extract) -> None:
        self._extract = extract
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._offset = extract.start
        self._line = 1

    def decoded(self, chunk: bytes) -> str:
        """The characters that are whole with this chunk."""
        fresh = self._without_stray_edge(chunk)
        self._offset += len(chunk) - len(fresh)
        decoded = self._decode(fresh, final=False)
        if "\0" in decoded:
            line = self._line + decoded[: decoded.index("\0")].count("\n")
            where = f"line {line}" if self._extract.at_start else f"after byte {self._offset}"
            raise DatasetBroken(
                f"dataset {self._extract.uri}, {where}: a NUL byte, so this is binary data; "
                "a dataset must be UTF-8 text"
            )
        self._line += fresh.count(b"\n")
        self._offset += len(fresh)
        return decoded

    def refuse_cut_character(self) -> None:
        """Raises DatasetBroken when the file ends inside a character."""
        if self._extract.at_end:
            self._decode(b"", final=True)

    def _decode(self, fresh: bytes, *, final: bool) -> str:
        pending = len(self._decoder.getstate()[0])
        try:
            return self._decoder.decode(fresh, final=final)
        except UnicodeDecodeError as error:
            position = self._offset - pending + error.start
            line = self._line + error.object[: error.start].count(b"\n")
            where = f"line {line}" if self._extract.at_start else f"byte {position}"
            problem = not_utf8(error.object[error.start], position)
            raise DatasetBroken(f"dataset {self._extract.uri}, {where}: {problem}") from error

    def _without_stray_edge(self, chunk: bytes) -> bytes:
        if self._offset == 0:
            refuse_magic(self._extract.uri, chunk)
            return chunk.removeprefix(codecs.BOM_UTF8)
        # A part may begin inside a character: its continuation bytes (10xxxxxx) belong to nobody here.
        return chunk.lstrip(_CONTINUATION_BYTES) if self._offset == self._extract.start else chunk


def _cut(text: str) -> list[str]:
    """The text in pieces of about PASSAGE_CHARACTERS that end where a line does, or else a word."""
    pieces, start = [], 0
    while len(text) - start > PASSAGE_CHARACTERS:
        limit = start + PASSAGE_CHARACTERS
        cut = text.rfind("\n", start, limit) + 1 or text.rfind(" ", start + 1, limit) or limit
        cut = cut if cut > start else limit
        pieces.append(text[start:cut])
        start = cut
    return [*pieces, text[start:]]
