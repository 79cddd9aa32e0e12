"""What a document is, by its name and its first bytes, and its bytes as text."""

from __future__ import annotations

import codecs
import re
from enum import StrEnum
from typing import Final

from perdure_documents.refusals import Problem, Refused

SIZE_LIMIT_BYTES: Final = 32 << 20
"""Of one document."""
TEXT_LIMIT_CHARACTERS: Final = 16 << 20
"""Of the text of one document, whatever its bytes unfold to."""


class Format(StrEnum):
    """What can be read."""

    TEXT = "text"
    MARKDOWN = "markdown"
    HTML = "html"
    PDF = "pdf"


_BY_END: Final = {
    "txt": Format.TEXT,
    "text": Format.TEXT,
    "md": Format.MARKDOWN,
    "markdown": Format.MARKDOWN,
    "html": Format.HTML,
    "htm": Format.HTML,
    "xhtml": Format.HTML,
    "pdf": Format.PDF,
}
_ARCHIVES: Final = (
    (b"PK\x03\x04", "a zip archive (as .docx, .xlsx and .epub are too)"),
    (b"PK\x05\x06", "a zip archive"),
    (b"\x1f\x8b", "packed with gzip"),
    (b"BZh", "packed with bzip2"),
    (b"\xfd7zXZ\x00", "packed with xz"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a rar archive"),
)
_PDF_STARTS_WITHIN_BYTES: Final = 1024
"""Readers of PDF take up to so much before the header."""
_MARKS: Final = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_DECLARED: Final = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]{1,40})""", re.IGNORECASE)
_DECLARED_WITHIN_BYTES: Final = 1024
"""By the HTML standard."""
_ONE_BYTE_CHARSETS: Final = re.compile(
    r"(iso8859-\d+|cp125\d|koi8-[ru]|mac-\w+|gbk|gb18030|gb2312|big5|euc_\w+|shift_jis|ascii)"
)


def readable_name(name: str) -> bool:
    """Whether a file's name ends as those do that can be read."""
    return _end(name) in _BY_END


def format_of(name: str, content: bytes) -> Format:
    """What a document is. Its bytes are believed before its name; no archive is ever opened.

    Raises:
        Refused: nothing that can be read.
    """
    if not content.strip():
        raise Refused(Problem.EMPTY, "is empty; leave it out")
    if len(content) > SIZE_LIMIT_BYTES:
        raise Refused(
            Problem.TOO_LARGE, f"has {len(content)} bytes; expected at most {SIZE_LIMIT_BYTES}: cut it into several"
        )
    for start, what in _ARCHIVES:
        if content.startswith(start):
            raise Refused(Problem.ARCHIVE, f"is {what}, and archives are not opened; unpack it, or save it as PDF")
    if b"%PDF-" in content[:_PDF_STARTS_WITHIN_BYTES]:
        return Format.PDF
    if found := _BY_END.get(_end(name)):
        if found is Format.PDF:
            raise Refused(
                Problem.BROKEN,
                f"is called a PDF and begins with {content[:8]!r}; expected %PDF-: it is cut, or no PDF; save it again",
            )
        return found
    raise Refused(
        Problem.UNKNOWN_FORMAT, "has a name that tells no format; expected one that ends in .txt, .md, .html or .pdf"
    )


def decoded(content: bytes, format_: Format) -> str:
    """The text of a document that is text, without its byte order mark.

    UTF-8; UTF-16 with a byte order mark; HTML also in what its `<meta charset>` says.

    Raises:
        Refused: it is in no encoding that it says.
    """
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return _checked(_decoded_as(content[len(mark) :], encoding))
    if (place := content.find(b"\0")) >= 0:
        raise Refused(
            Problem.BINARY,
            f"has a NUL byte at byte {place}, so it is binary data; expected text, or UTF-16 with its mark",
        )
    try:
        return _checked(content.decode())
    except UnicodeDecodeError as error:
        if format_ is Format.HTML and (declared := _declared(content)):
            return _checked(_decoded_as(content, declared))
        raise _undecodable(content, "utf-8", error.start) from error


def _checked(text: str) -> str:
    if len(text) > TEXT_LIMIT_CHARACTERS:
        raise Refused(
            Problem.TOO_LARGE,
            f"has {len(text)} characters of text; expected at most {TEXT_LIMIT_CHARACTERS}: cut it into several",
        )
    if (place := text.find("\0")) >= 0:
        raise Refused(Problem.BINARY, f"has a NUL at character {place}, so it is binary data; expected text")
    if not text.strip():
        raise Refused(Problem.EMPTY, "is empty; leave it out")
    return text


def _decoded_as(content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise _undecodable(content, encoding, error.start) from error


def _undecodable(content: bytes, encoding: str, place: int) -> Refused:
    return Refused(
        Problem.BROKEN, f"is no {encoding.upper()}: byte {place} is 0x{content[place]:02X}; save it as UTF-8"
    )


def _declared(content: bytes) -> str | None:
    """The encoding that HTML says it has, if that is one of text."""
    match = _DECLARED.search(content[:_DECLARED_WITHIN_BYTES])
    if match is None:
        return None
    try:
        name = codecs.lookup(match[1].decode()).name
    except LookupError:
        return None
    return name if _ONE_BYTE_CHARSETS.fullmatch(name) else None


def _end(name: str) -> str:
    return name.rpartition("/")[2].rpartition(".")[2].lower() if "." in name.rpartition("/")[2] else ""
