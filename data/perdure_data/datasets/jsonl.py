"""JSON Lines: one record a line."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from perdure_data.datasets.errors import DatasetBroken
from perdure_data.datasets.extract import Extract
from perdure_data.datasets.fields import RecordParser
from perdure_data.datasets.formats import refuse_magic
from perdure_data.datasets.records import Record
from perdure_data.datasets.wording import not_utf8, shown, shown_value

LINE_LIMIT_BYTES: Final = 16 * 2**20
"""A longer line is taken for a file that is not JSON Lines at all."""


def line_records(extract: Extract, parser: RecordParser) -> Iterator[Record]:
    """The records of a part of a JSON Lines file; blank lines are none.

    Raises:
        DatasetBroken: with URI and line (or byte, where lines were not counted from the start).
    """
    for line in _lines(extract):
        if line.content and not line.content.isspace():
            where = f"dataset {extract.uri}, {line}"
            yield parser.record(where, _object_of(where, line.content))


@dataclass(frozen=True)
class _Line:
    number: int | None
    offset: int
    content: bytes

    def __str__(self) -> str:
        return f"byte {self.offset}" if self.number is None else f"line {self.number}"


def _lines(extract: Extract) -> Iterator[_Line]:
    number = 1 if extract.at_start else None
    offset = extract.start
    rest = b""
    cut = not extract.at_start
    for chunk in extract.chunks:
        if offset == 0 and not rest:
            refuse_magic(extract.uri, chunk)
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
                f"dataset {extract.uri}, {_Line(number, offset, b'')}: no end of line within {LINE_LIMIT_BYTES} bytes; "
                "JSON Lines holds one JSON object a line. For plain text set spec.dataset.format to text"
            )
    if rest and not cut and extract.at_end:
        yield _Line(number, offset, _without_bom(rest, offset))


def _without_bom(line: bytes, offset: int) -> bytes:
    return line.removeprefix(codecs.BOM_UTF8) if offset == 0 else line


def _object_of(where: str, content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content.decode())
    except UnicodeDecodeError as error:
        raise DatasetBroken(f"{where}: {not_utf8(error.object[error.start], error.start)}") from error
    except (ValueError, RecursionError) as error:
        problem = _problem(content, error)
        raise DatasetBroken(
            f"{where}: {problem}, found {shown(content.decode(errors='replace'))}; each line must be one JSON object"
        ) from error
    if not isinstance(found, dict):
        raise DatasetBroken(f'{where}: {shown_value(found)}; each line must be one JSON object such as {{"text": "…"}}')
    return found


def _problem(content: bytes, error: Exception) -> str:
    if b"\0" in content:
        return "a NUL byte, so this is binary data"
    if content.strip() in {b"[", b"{"}:
        return "the beginning of JSON over several lines (jq -c rewrites it)"
    return f"no JSON ({error})"
