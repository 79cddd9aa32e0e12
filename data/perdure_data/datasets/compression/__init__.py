"""Compressed files, read as a stream: a small piece of the content is in memory at a time, however much it becomes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Final, assert_never

from perdure_api.uri import StoreUri
from perdure_data.datasets.compression.damage import Damaged
from perdure_data.datasets.compression.gzip import gunzipped
from perdure_data.datasets.compression.zstd import unzstded
from perdure_data.datasets.errors import DatasetBroken

SLICE_BYTES: Final = 2**16
"""Compressed data are decompressed in slices of this size."""

_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE: Final = range(0x184D2A50, 0x184D2A60)
"""Frames that tools put before the data: pzstd does, and the seekable format. RFC 8878, 3.1.2."""


class Compression(StrEnum):
    """What was done to a file as a whole."""

    GZIP = "gzip"
    ZSTD = "zstd"


def compression_of(head: bytes) -> Compression | None:
    """How a file that begins so is compressed."""
    if head.startswith(_GZIP_MAGIC):
        return Compression.GZIP
    skippable = len(head) >= len(_ZSTD_MAGIC) and int.from_bytes(head[:4], "little") in _ZSTD_SKIPPABLE
    return Compression.ZSTD if head.startswith(_ZSTD_MAGIC) or skippable else None


def sliced(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in slices of at most SLICE_BYTES."""
    for chunk in chunks:
        for start in range(0, len(chunk), SLICE_BYTES):
            yield chunk[start : start + SLICE_BYTES]


def decompressed(uri: StoreUri, compression: Compression | None, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The content of a file; chunks are asked for as the content is.

    Raises:
        DatasetBroken: damaged, or cut; with the line of the content that was reached.
    """
    lines = 1
    try:
        for piece in _pieces(compression, chunks):
            yield piece
            lines += piece.count(b"\n")
    except Damaged as error:
        raise DatasetBroken(f"dataset {uri}, line {lines}: the {compression} data {error}") from error


def _pieces(compression: Compression | None, chunks: Iterable[bytes]) -> Iterable[bytes]:
    match compression:
        case None:
            return chunks
        case Compression.GZIP:
            return gunzipped(sliced(chunks))
        case Compression.ZSTD:
            return unzstded(sliced(chunks))
        case _:
            assert_never(compression)
