"""URIs of objects and folders in a store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

SCHEMES: Final = ("s3", "gs", "az", "file")


class UriError(ValueError):
    """A URI that no store understands; the message says what was found and what was expected."""


@dataclass(frozen=True)
class StoreUri:
    """A parsed URI: `s3://bucket/path`, `gs://bucket/path`, `az://container/path` or `file:///path`."""

    scheme: str
    bucket: str
    """Bucket or container; empty for `file`."""
    path: str
    """Key or prefix without a leading slash; for `file` an absolute path."""

    def __str__(self) -> str:
        """The URI again."""
        return f"{self.scheme}://{self.bucket}{'' if self.scheme == 'file' else '/'}{self.path}"

    @property
    def root(self) -> str:
        """The address of the store itself: one client serves every URI below it."""
        return f"{self.scheme}://{self.bucket}" if self.bucket else f"{self.scheme}:///"

    @property
    def parent(self) -> StoreUri:
        """The folder that this is in."""
        return StoreUri(self.scheme, self.bucket, self.path.rstrip("/").rpartition("/")[0])

    def child(self, *parts: str) -> StoreUri:
        """The URI below this one."""
        tail = "/".join(part.strip("/") for part in parts)
        return StoreUri(self.scheme, self.bucket, f"{self.path.rstrip('/')}/{tail}")


def parse_uri(text: str) -> StoreUri:
    """The parsed form of a store URI.

    Raises:
        UriError: unknown scheme, no bucket, or no path.
    """
    parts = urlsplit(text)
    if parts.scheme not in SCHEMES:
        raise UriError(f'"{text}" starts with no scheme that Perdure knows; use s3://, gs://, az:// or file://')
    path = unquote(parts.path)
    if parts.scheme == "file":
        if parts.netloc or not path.startswith("/"):
            raise UriError(f'"{text}" is no absolute path; write file:///path/to/it')
        return StoreUri("file", "", path)
    if not parts.netloc:
        raise UriError(f'"{text}" names no bucket; write {parts.scheme}://bucket/path')
    if not path.strip("/"):
        raise UriError(f'"{text}" names a bucket but nothing in it; write {parts.scheme}://{parts.netloc}/path')
    return StoreUri(parts.scheme, parts.netloc, path.lstrip("/"))
