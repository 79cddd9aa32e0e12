"""Zstandard (RFC 8878): any number of frames, one after another."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Final

from perdure_data.datasets.compression.damage import CUT, Damaged

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PIECE_BYTES: Final = 2**20
WINDOW_LOG_LIMIT: Final = 27
"""A frame that needs more than 128 MiB of memory is refused: what zstd's own command line does by default."""


def unzstded(slices: Iterable[bytes]) -> Iterator[bytes]:
    """The content, in pieces of at most PIECE_BYTES.

    Raises:
        Damaged: no zstd, a wrong checksum, an end in the middle, or a window beyond WINDOW_LOG_LIMIT.
    """
    frame = None
    for each in slices:
        data = each
        while data or (frame is not None and not frame.needs_input):
            frame = frame or zstd.ZstdDecompressor(options=_OPTIONS)
            try:
                piece = frame.decompress(data, PIECE_BYTES)
            except zstd.ZstdError as error:
                raise Damaged(f"cannot be read on ({error}); write the file again, with zstd --long=27 or less") from (
                    error
                )
            if piece:
                yield piece
            data = b""
            if frame.eof:
                data, frame = frame.unused_data, None
    if frame is not None:
        raise Damaged(CUT)


_OPTIONS: Final[dict[int, int]] = {zstd.DecompressionParameter.window_log_max: WINDOW_LOG_LIMIT}
