"""gzip (RFC 1952): any number of members, one after another, perhaps padded with zeros."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Final

from perdure_data.datasets.compression.damage import CUT, Damaged

PIECE_BYTES: Final = 2**20
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
"""zlib's way to say: with gzip's header and checksum."""


def gunzipped(slices: Iterable[bytes]) -> Iterator[bytes]:
    """The content, in pieces of at most PIECE_BYTES.

    Raises:
        Damaged: no gzip, a wrong checksum, or an end in the middle.
    """
    member = None
    begun = False
    for each in slices:
        data = each
        while data:
            if member is None:
                data = data.lstrip(b"\0") if begun else data
                if not data:
                    break
                member, begun = zlib.decompressobj(_GZIP_WINDOW), True
            try:
                piece = member.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                raise Damaged(f"are damaged here or before ({error}); write the file again") from error
            if piece:
                yield piece
            if member.eof:
                data, member = member.unused_data, None
            else:
                data = member.unconsumed_tail
    if member is not None:
        raise Damaged(CUT)
