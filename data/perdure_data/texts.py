"""Texts in a store, one a line: looked at once from front to back, then read in parts by whoever has time."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator
from typing import Any, Final

from perdure_api.inference import TEXT_LIMIT_CHARACTERS, TextFormat, TextPart, TextSource, text_problem
from perdure_api.uri import StoreUri, parse_uri
from perdure_data.errors import NotFound
from perdure_data.stores import READ_CHUNK_BYTES, ObjectInfo, Stores

PARTS_LIMIT: Final = 2000
"""Of one survey: each becomes an activity, of which a workflow's history holds a few thousand."""
_PART_BYTES: Final = 64 * 2**20
"""A part ends here, however few its texts: whoever reads it has all of it in memory."""
_LINE_LIMIT_BYTES: Final = 16 * TEXT_LIMIT_CHARACTERS
"""Of a line that may be JSON, in which a character takes up to 12 bytes."""
_FORMATS: Final = {
    ".jsonl": TextFormat.JSONL,
    ".ndjson": TextFormat.JSONL,
    ".txt": TextFormat.TEXT,
    ".text": TextFormat.TEXT,
}
_NOT_LINES: Final = (".gz", ".zst", ".parquet")


class TextsError(Exception):
    """Texts cannot be used; the message says which, what was found, and what to do."""


def survey(
    stores: Stores, source: TextSource, rows_per_part: int, alive: Callable[[], None] = lambda: None
) -> list[TextPart]:
    """Where the texts of a source are, in parts of `rows_per_part` texts (more, where there would be too many parts).

    Args:
        stores: Where they are.
        source: A file, or a folder whose files are taken in the order of their names.
        rows_per_part: At least 1.
        alive: Called now and then.

    Raises:
        TextsError: there are none, or one is no text; with file and line.
        StoreError: it cannot be read.
    """
    parts: list[TextPart] = []
    for info in _files(stores, parse_uri(source.uri), source.format):
        for part in _parts_of(stores, info, source, rows_per_part):
            alive()
            parts.append(part)
            if len(parts) > PARTS_LIMIT:
                parts = _joined(parts)
                rows_per_part *= 2
                _refuse_many_files(source, parts)
    if not parts:
        raise TextsError(f"{source.uri}: found no texts; expected one a line. Upload them, or correct source.uri")
    return parts


def read_part(stores: Stores, part: TextPart) -> list[str]:
    """The texts of a part.

    Raises:
        TextsError: one is no text, which a survey would have found.
        Unavailable: also when the file is no longer the one that was looked at.
    """
    info = ObjectInfo(parse_uri(part.uri), part.size_bytes, part.etag)
    pieces = range(part.start, part.end, READ_CHUNK_BYTES)
    content = b"".join(stores.read_range(info, at, min(at + READ_CHUNK_BYTES, part.end)) for at in pieces)
    lines = (line for line in content.split(b"\n") if line.strip())
    return [_text(line, f"{part.uri}, from byte {part.start}", part.format, part.field) for line in lines]


def _files(stores: Stores, place: StoreUri, format_: TextFormat | None) -> list[ObjectInfo]:
    if place.path.lower().endswith((*_FORMATS, *_NOT_LINES)) or format_ is not None:
        try:
            return [stores.head(place)]
        except NotFound:
            if place.path.lower().endswith((*_FORMATS, *_NOT_LINES)):
                raise
    files, _ = stores.children(place)
    found = files if format_ else [info for info in files if info.uri.path.lower().endswith(tuple(_FORMATS))]
    if not found:
        raise TextsError(
            f"{place}: found {len(files)} files, none of them {', '.join(_FORMATS)}; expected texts, one a line. "
            f"Upload them, or name one file and its source.format"
        )
    return found


def _format(info: ObjectInfo, given: TextFormat | None) -> TextFormat:
    name = info.uri.path.lower()
    if name.endswith(_NOT_LINES):
        raise TextsError(
            f"{info.uri}: found a file that is compressed or Parquet; expected lines as they are (.jsonl or .txt): "
            f"parts of it are read by several workers. Write it out as JSON Lines"
        )
    found = given or next((format_ for end, format_ in _FORMATS.items() if name.endswith(end)), None)
    if found is None:
        raise TextsError(f"{info.uri}: its name does not say what it is; set source.format to jsonl or text")
    return found


def _parts_of(stores: Stores, info: ObjectInfo, source: TextSource, rows_per_part: int) -> Iterator[TextPart]:
    format_ = _format(info, source.format)
    start, rows, end = 0, 0, 0

    def part() -> TextPart:
        return TextPart(
            uri=str(info.uri),
            size_bytes=info.size_bytes,
            etag=info.etag,
            start=start,
            end=end,
            rows=rows,
            format=format_,
            field=source.field,
        )

    for number, (offset, line) in enumerate(_lines(stores, info), 1):
        if line.strip():
            _text(line, f"{info.uri}, line {number}", format_, source.field)
            rows += 1
        end = min(offset + len(line) + 1, info.size_bytes)
        if rows and (rows == rows_per_part or end - start >= _PART_BYTES):
            yield part()
            start, rows = end, 0
    if rows:
        yield part()


def _lines(stores: Stores, info: ObjectInfo) -> Iterator[tuple[int, bytes]]:
    """Each line, and the byte at which it begins."""
    offset, rest = 0, b""
    for chunk in stores.stream(info):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield offset, line
            offset += len(line) + 1
        if len(rest) > _LINE_LIMIT_BYTES:
            raise TextsError(
                f"{info.uri}, byte {offset}: found no end of line within {_LINE_LIMIT_BYTES} bytes; expected a text a "
                f"line"
            )
    if rest:
        yield offset, rest


def _text(line: bytes, where: str, format_: TextFormat, field: str) -> str:
    try:
        decoded = line.removeprefix(codecs.BOM_UTF8).decode().strip("\r")
    except UnicodeDecodeError as error:
        raise TextsError(f"{where}: byte {error.start + 1} of the line is no UTF-8; write the file in UTF-8") from error
    text = decoded if format_ is TextFormat.TEXT else _field(decoded, where, field)
    if problem := text_problem(text):
        raise TextsError(f"{where}: the text {problem}")
    return text


def _field(line: str, where: str, field: str) -> str:
    try:
        found: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise TextsError(
            f"{where}: found no JSON ({error}); expected an object a line, or source.format: text"
        ) from error
    if not isinstance(found, dict):
        raise TextsError(f'{where}: found a {type(found).__name__}; expected an object such as {{"{field}": "…"}}')
    text = found.get(field)
    if not isinstance(text, str):
        there = ", ".join(f'"{name}"' for name in list(found)[:8]) or "no fields"
        raise TextsError(f'{where}: field "{field}" is no text (found {there}); set source.field to the one that is')
    return text


def _refuse_many_files(source: TextSource, parts: list[TextPart]) -> None:
    if len(parts) > PARTS_LIMIT:
        raise TextsError(
            f"{source.uri}: found more than {PARTS_LIMIT} files; expected fewer and larger ones. Write the texts "
            f"together"
        )


def _joined(parts: list[TextPart]) -> list[TextPart]:
    """About half as many, each of two neighbours of one file."""
    joined: list[TextPart] = []
    alone = True
    for part in parts:
        before = joined[-1] if joined else None
        if before and alone and before.uri == part.uri:
            joined[-1] = before.model_copy(update={"end": part.end, "rows": before.rows + part.rows})
            alone = False
        else:
            joined.append(part)
            alone = True
    return joined
