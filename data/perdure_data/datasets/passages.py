"""From bytes to text: the formats that a dataset may have, read as a stream."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from perdure_api.spec import DatasetFormat, DatasetSpec
from perdure_api.uri import StoreUri, parse_uri
from perdure_data.datasets.errors import DatasetBroken
from perdure_data.datasets.records import Passage

LINE_LIMIT_BYTES: Final = 16 * 2**20
"""A longer line is taken for a file that is not JSON Lines at all."""
PASSAGE_CHARACTERS: Final = 2**16
"""Plain text is handed on in passages of about this size."""

_SHOWN: Final = 40
_FIELDS_SHOWN: Final = 6
_MAGIC: Final = (
    (b"\x1f\x8b", "gzip-compressed data; decompress it first"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed data; decompress it first"),
    (b"PK\x03\x04", "a zip archive; unpack it first"),
    (b"PAR1", "a Parquet file; write it as JSON Lines"),
    (b"\xff\xfe", "UTF-16 text; convert it to UTF-8"),
    (b"\xfe\xff", "UTF-16 text; convert it to UTF-8"),
    (b"%PDF", "a PDF file; extract its text"),
)


@dataclass(frozen=True)
class Source:
    """One dataset file and how it is to be read."""

    uri: StoreUri
    format: DatasetFormat
    text_field: str

    @classmethod
    def training(cls, spec: DatasetSpec) -> Source:
        """The training data of a spec."""
        return cls(parse_uri(spec.uri), spec.format, spec.text_field)

    @classmethod
    def held_out(cls, spec: DatasetSpec) -> Source | None:
        """The evaluation data of a spec, when it names any."""
        return cls(parse_uri(spec.eval_uri), spec.format, spec.text_field) if spec.eval_uri else None


@dataclass(frozen=True)
class Region:
    """A part of a file. Inside a file, line numbers are unknown and the lines at both edges are cut."""

    start: int
    end: int
    size_bytes: int
    """Size of the whole file."""

    @property
    def at_start(self) -> bool:
        """Whether the file begins with it."""
        return self.start == 0

    @property
    def at_end(self) -> bool:
        """Whether the file ends with it."""
        return self.end >= self.size_bytes


def passages(source: Source, chunks: Iterable[bytes], region: Region) -> Iterator[Passage]:
    """The passages of a region of a file.

    Raises:
        DatasetBroken: with URI and line (or byte, where lines were not counted from the start).
    """
    match source.format:
        case DatasetFormat.JSONL:
            yield from _documents(source, chunks, region)
        case DatasetFormat.TEXT:
            yield from _text(source, chunks, region)


@dataclass(frozen=True)
class _Line:
    number: int | None
    offset: int
    content: bytes

    def __str__(self) -> str:
        return f"byte {self.offset}" if self.number is None else f"line {self.number}"


def _documents(source: Source, chunks: Iterable[bytes], region: Region) -> Iterator[Passage]:
    for line in _lines(source, chunks, region):
        if not line.content or line.content.isspace():
            continue
        yield Passage(_text_of(source, line), ends_document=True)


def _lines(source: Source, chunks: Iterable[bytes], region: Region) -> Iterator[_Line]:
    number = 1 if region.at_start else None
    offset = region.start
    rest = b""
    cut = not region.at_start
    for chunk in chunks:
        if offset == 0 and not rest:
            _refuse_magic(source, chunk)
        pieces = (rest + chunk).split(b"\n")
        rest = pieces.pop()
        for piece in pieces:
            if not cut:
                yield _Line(number, offset, _without_bom(piece, offset))
            cut = False
            offset += len(piece) + 1
            number = None if number is None else number + 1
        if len(rest) > LINE_LIMIT_BYTES:
            raise DatasetBroken(
                f"dataset {source.uri}, {_Line(number, offset, b'')}: no end of line within {LINE_LIMIT_BYTES} bytes; "
                "JSON Lines holds one JSON object a line. For plain text set spec.dataset.format to text"
            )
    if rest and not cut and region.at_end:
        yield _Line(number, offset, _without_bom(rest, offset))


def _without_bom(line: bytes, offset: int) -> bytes:
    return line.removeprefix(codecs.BOM_UTF8) if offset == 0 else line


def _text_of(source: Source, line: _Line) -> str:
    where = f"dataset {source.uri}, {line}"
    document = _object_of(where, line.content)
    if source.text_field not in document:
        raise DatasetBroken(
            f'{where}: field "{source.text_field}" is missing (found {_names(document)}); '
            "set spec.dataset.textField or rename it"
        )
    text = document[source.text_field]
    if not isinstance(text, str):
        raise DatasetBroken(
            f'{where}: field "{source.text_field}" is {_kind(text)} ({_shown(json.dumps(text))}); '
            "it must be a string. Set spec.dataset.textField to the field that holds the text"
        )
    if not _encodable(text):
        raise DatasetBroken(
            f'{where}: field "{source.text_field}" holds half a surrogate pair, which is no character; '
            "write the data as valid UTF-8"
        )
    return text


def _object_of(where: str, content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content.decode())
    except UnicodeDecodeError as error:
        raise DatasetBroken(f"{where}: {_not_utf8(error.object[error.start], error.start)}") from error
    except (ValueError, RecursionError) as error:
        nul = b"\0" in content
        problem = "a NUL byte, so this is binary data" if nul else f"no JSON ({error})"
        raise DatasetBroken(
            f"{where}: {problem}, found {_shown(content.decode(errors='replace'))}; each line must be one JSON object"
        ) from error
    if not isinstance(found, dict):
        raise DatasetBroken(
            f"{where}: {_kind(found)} ({_shown(json.dumps(found))}); each line must be one JSON object such as "
            '{"text": "…"}'
        )
    return found


def _text(source: Source, chunks: Iterable[bytes], region: Region) -> Iterator[Passage]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    lines, offset, text = 1, region.start, ""
    for chunk in chunks:
        fresh = chunk
        if offset == 0:
            _refuse_magic(source, chunk)
            fresh = chunk.removeprefix(codecs.BOM_UTF8)
        elif offset == region.start:
            # A range may begin inside a character: its continuation bytes (10xxxxxx) belong to nobody here.
            fresh = chunk.lstrip(bytes(range(0x80, 0xC0)))
        start = offset + len(chunk) - len(fresh)
        pending = len(decoder.getstate()[0])
        try:
            decoded = decoder.decode(fresh, final=region.at_end and offset + len(chunk) >= region.end)
        except UnicodeDecodeError as error:
            number = lines + error.object[: error.start].count(b"\n")
            where = f"line {number}" if region.at_start else f"byte {start - pending + error.start}"
            problem = _not_utf8(error.object[error.start], start - pending + error.start)
            raise DatasetBroken(f"dataset {source.uri}, {where}: {problem}") from error
        if "\0" in decoded:
            number = lines + decoded[: decoded.index("\0")].count("\n")
            where = f"line {number}" if region.at_start else f"after byte {start}"
            raise DatasetBroken(
                f"dataset {source.uri}, {where}: a NUL byte, so this is binary data; a dataset must be UTF-8 text"
            )
        lines += fresh.count(b"\n")
        offset += len(chunk)
        *whole, text = _passages_of(text + decoded)
        yield from (Passage(piece, ends_document=False) for piece in whole)
    if text:
        yield Passage(text, ends_document=True)


def _passages_of(text: str) -> list[str]:
    """The text in pieces of about PASSAGE_CHARACTERS that end where a line does, or else a word."""
    pieces, start = [], 0
    while len(text) - start > PASSAGE_CHARACTERS:
        limit = start + PASSAGE_CHARACTERS
        cut = text.rfind("\n", start, limit) + 1 or text.rfind(" ", start + 1, limit) or limit
        cut = cut if cut > start else limit
        pieces.append(text[start:cut])
        start = cut
    return [*pieces, text[start:]]


def _refuse_magic(source: Source, chunk: bytes) -> None:
    for magic, what in _MAGIC:
        if chunk.startswith(magic):
            raise DatasetBroken(f"dataset {source.uri} is {what}")


def _not_utf8(byte: int, position: int) -> str:
    return f"byte {position} (0x{byte:02x}) is no valid UTF-8; a dataset must be UTF-8 text. Convert it, or repair it"


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _names(document: dict[str, Any]) -> str:
    names = [f'"{_shown(name)}"' for name in list(document)[:_FIELDS_SHOWN]]
    more = f" and {len(document) - len(names)} more" if len(document) > len(names) else ""
    return ", ".join(names) + more if names else "no fields"


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
        case _:
            return "an object"


def _shown(text: str) -> str:
    printable = "".join(character if character.isprintable() else "�" for character in text[: _SHOWN + 1])
    return f"{printable[:_SHOWN]}…" if len(text) > _SHOWN else printable
