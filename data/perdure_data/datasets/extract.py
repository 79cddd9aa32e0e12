"""A part of a file, as bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from perdure_api.uri import StoreUri


@dataclass
class Extract:
    """A part of a file's content, decompressed, to be read once from front to back.

    Inside a file, line numbers are unknown and the lines at both edges are cut.
    """

    uri: StoreUri
    chunks: Iterable[bytes]
    start: int = 0
    """Where in the content it begins."""
    at_end: bool = True
    """Whether the content ends with it: certain once the chunks have been read."""

    @property
    def at_start(self) -> bool:
        """Whether the content begins with it."""
        return self.start == 0


def front(uri: StoreUri, chunks: Iterator[bytes], limit_bytes: int) -> Extract:
    """About the first `limit_bytes` of content of unknown length."""
    extract = Extract(uri, ())

    def limited() -> Iterator[bytes]:
        left = limit_bytes
        for chunk in chunks:
            if left <= 0:
                extract.at_end = False
                return
            left -= len(chunk)
            yield chunk

    extract.chunks = limited()
    return extract
