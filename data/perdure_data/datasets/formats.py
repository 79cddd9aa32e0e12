"""What a file is: told by its first bytes, and only where these leave it open by its name."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from perdure_api.spec import DatasetFormat
from perdure_api.uri import StoreUri
from perdure_data.datasets.compression import Compression, compression_of, decompressed
from perdure_data.datasets.errors import DatasetBroken
from perdure_data.stores import ObjectInfo

HEAD_BYTES: Final = 4096
"""As much of a file as it takes to know what it is."""
PARQUET_MAGIC: Final = b"PAR1"

_SUFFIXES: Final = {
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "json": "jsonl",
    "txt": "text",
    "text": "text",
    "md": "text",
    "parquet": "parquet",
    "pq": "parquet",
}
_COMPRESSION_SUFFIXES: Final = (".gz", ".zst")
_FOREIGN: Final = (
    (b"\x1f\x8b", "gzip-compressed twice; decompress it once"),
    (b"\x28\xb5\x2f\xfd", "compressed twice; decompress it once"),
    (b"PK\x03\x04", "a zip archive; unpack it first"),
    (b"BZh", "bzip2-compressed data; use gzip or zstd, or decompress it"),
    (b"\xfd7zXZ\x00", "xz-compressed data; use gzip or zstd, or decompress it"),
    (PARQUET_MAGIC, "a Parquet file; set spec.dataset.format to parquet, and leave it uncompressed: it is inside"),
    (b"PARE", "an encrypted Parquet file; write it without encryption"),
    (b"ARROW1", "an Arrow file; write it as Parquet"),
    (b"\xff\xfe", "UTF-16 text; convert it to UTF-8"),
    (b"\xfe\xff", "UTF-16 text; convert it to UTF-8"),
    (b"%PDF", "a PDF file; extract its text"),
)


class FileFormat(StrEnum):
    """How the content of one file is read."""

    TEXT = "text"
    JSONL = "jsonl"
    PARQUET = "parquet"


@dataclass(frozen=True)
class DatasetFile:
    """One file of a dataset, and what it is."""

    info: ObjectInfo
    format: FileFormat
    compression: Compression | None = None
    """Around the whole file; Parquet compresses inside."""


def recognise(info: ObjectInfo, head: bytes, asked: DatasetFormat) -> DatasetFile:
    """What a file is, from its first HEAD_BYTES.

    A compression shows in the first bytes whatever the name says. With format auto, so does Parquet; a name of text
    (.txt, .text, .md) makes it text, unless it begins as a JSON object does; anything else is JSON Lines.

    Raises:
        DatasetBroken: it is not what was asked for.
    """
    compression = compression_of(head)
    match asked:
        case DatasetFormat.TEXT:
            return DatasetFile(info, FileFormat.TEXT, compression)
        case DatasetFormat.JSONL:
            return DatasetFile(info, FileFormat.JSONL, compression)
        case DatasetFormat.PARQUET:
            if not head.startswith(PARQUET_MAGIC):
                refuse_magic(info.uri, head)
                raise DatasetBroken(
                    f'dataset {info.uri} is no Parquet file (found {head[:4]!r}, expected b"PAR1" at its beginning); '
                    "correct spec.dataset.format, or write it again"
                )
            return DatasetFile(info, FileFormat.PARQUET)
        case DatasetFormat.AUTO:
            if head.startswith(PARQUET_MAGIC):
                return DatasetFile(info, FileFormat.PARQUET)
            return DatasetFile(info, _by_name(info, head, compression), compression)


def format_in_name(uri: StoreUri) -> str | None:
    """The format that the name of a file promises: empty when it has no suffix, None when it has an unknown one."""
    name = uri.path.rpartition("/")[2].lower()
    for suffix in _COMPRESSION_SUFFIXES:
        name = name.removesuffix(suffix)
    _, dot, suffix = name.rpartition(".")
    return _SUFFIXES.get(suffix) if dot else ""


def refuse_magic(uri: StoreUri, head: bytes) -> None:
    """Raises DatasetBroken when content begins as a well-known format does that is no text."""
    for magic, what in _FOREIGN:
        if head.startswith(magic):
            raise DatasetBroken(f"dataset {uri} is {what}")


def _by_name(info: ObjectInfo, head: bytes, compression: Compression | None) -> FileFormat:
    if format_in_name(info.uri) != FileFormat.TEXT:
        return FileFormat.JSONL
    content = next(iter(decompressed(info.uri, compression, [head])), b"")
    return FileFormat.JSONL if content.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{") else FileFormat.TEXT
