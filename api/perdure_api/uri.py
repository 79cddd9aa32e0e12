"""URIs of objects and folders in a store."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

SCHEMES: Final = ("s3", "gs", "az", "file")
_BUCKET: Final = re.compile(r"[a-zA-Z0-9$][a-zA-Z0-9._-]*")
_NO_NAMES: Final = frozenset({"", ".", ".."})
_NOT_AS_IT_IS: Final = re.compile(r"[?#\x00-\x1f\x7f]")
_QUOTED: Final = re.compile(r"[%?#\x00-\x1f\x7f]")


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
        """The URI again, which parse_uri reads as the same."""
        path = _QUOTED.sub(lambda found: quote(found[0]), self.path)
        return f"{self.scheme}://{self.bucket}{'' if self.scheme == 'file' else '/'}{path}"

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
        UriError: unknown scheme, no bucket or none that can be, no path, or one that says something else than it seems.
    """
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in SCHEMES:
        raise UriError(f'"{text}" starts with no scheme that Perdure knows; use s3://, gs://, az:// or file://')
    if found := _NOT_AS_IT_IS.search(rest):
        raise UriError(f'"{text}" holds {found[0]!r}, which no path can as it is; write {quote(found[0])} for it')
    bucket, slash, quoted = rest.partition("/")
    path = unquote(quoted)
    if scheme == "file":
        if bucket or not slash:
            raise UriError(f'"{text}" is no absolute path; write file:///path/to/it')
    elif not bucket:
        raise UriError(f'"{text}" names no bucket; write {scheme}://bucket/path')
    elif not _BUCKET.fullmatch(bucket):
        raise UriError(f'"{text}" names a bucket "{bucket}", and none can be called so; write {scheme}://bucket/path')
    elif not path.strip("/"):
        raise UriError(f'"{text}" names a bucket but nothing in it; write {scheme}://{bucket}/path')
    parts = path.removesuffix("/").split("/") if path else []
    if not _NO_NAMES.isdisjoint(parts):
        raise UriError(f'"{text}" has an empty part, "." or ".." in its path; leave that out')
    return StoreUri(scheme, bucket, f"/{path}" if scheme == "file" else path)
