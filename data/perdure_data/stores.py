"""Objects and folders in S3, Google Cloud Storage, Azure and file systems, behind one interface.

Every call ends within about a minute, whatever the store does: whether to wait and try again is the caller's
decision, and `Unavailable` is the one error for which that makes sense.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final

import obstore
from obstore import exceptions
from obstore.store import AzureStore, GCSStore, LocalStore, S3Store

from perdure_api.uri import StoreUri
from perdure_data.errors import StoreError, TooLarge, translated

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

READ_CHUNK_BYTES: Final = 8 * 2**20
"""A stream is read in ranges of this size: each is one request, with retries of its own."""

_RETRY: Final[RetryConfig] = {"max_retries": 2, "retry_timeout": timedelta(seconds=20)}
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT", "AZURE_ENDPOINT")


@dataclass(frozen=True)
class ObjectInfo:
    """One object of a store."""

    uri: StoreUri
    size_bytes: int
    etag: str | None
    """Changes whenever the content does; None where a store has no such thing."""


class Stores:
    """Clients of every store that is asked for, made once each from the environment.

    S3: AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, …; Google: GOOGLE_APPLICATION_CREDENTIALS; Azure:
    AZURE_STORAGE_ACCOUNT_NAME, …; and workload identity of each. An http:// endpoint is taken as it is given.
    Methods may be called from any thread. They raise StoreError.
    """

    def __init__(self) -> None:
        self._clients: dict[str, ObjectStore] = {}
        self._lock = Lock()

    def head(self, uri: StoreUri) -> ObjectInfo:
        """Size and tag of an object."""
        client, key = self._address(uri)
        with translated(uri):
            try:
                meta = obstore.head(client, key)
            except (FileNotFoundError, exceptions.PermissionDeniedError, exceptions.UnauthenticatedError):
                # An answer to HEAD has no body: only GET says whether it is the bucket or the secret that is wrong.
                obstore.get(client, key, options={"range": (0, 1)})
                raise
        return ObjectInfo(uri, meta["size"], meta["e_tag"])

    def read(self, uri: StoreUri, *, limit_bytes: int) -> bytes:
        """The whole object.

        Raises:
            TooLarge: the object is larger than the limit.
        """
        client, key = self._address(uri)
        with translated(uri):
            answer = obstore.get(client, key)
            size = answer.meta["size"]
            if size <= limit_bytes:
                return bytes(answer.bytes())
        raise TooLarge(f"{uri} has {size} bytes; at most {limit_bytes} were expected there")

    async def read_async(self, uri: StoreUri, *, limit_bytes: int) -> bytes:
        """The whole object; see `read`."""
        client, key = self._address(uri)
        with translated(uri):
            answer = await obstore.get_async(client, key)
            size = answer.meta["size"]
            if size <= limit_bytes:
                return bytes(await answer.bytes_async())
        raise TooLarge(f"{uri} has {size} bytes; at most {limit_bytes} were expected there")

    def read_range(self, info: ObjectInfo, start: int, end: int) -> bytes:
        """The bytes from `start` up to `end` (exclusive; less at the end of the object).

        Raises:
            Unavailable: also when the object is no longer the one of `info`.
        """
        end = min(end, info.size_bytes)
        if start >= end:
            return b""
        client, key = self._address(info.uri)
        with translated(info.uri):
            answer = obstore.get(client, key, options={"range": (start, end), "if_match": info.etag})
            return bytes(answer.bytes())

    def stream(self, info: ObjectInfo, *, chunk_bytes: int = READ_CHUNK_BYTES) -> Iterator[bytes]:
        """The object from its beginning, one chunk in memory at a time."""
        for start in range(0, info.size_bytes, chunk_bytes):
            yield self.read_range(info, start, start + chunk_bytes)

    def list_objects(self, folder: StoreUri) -> list[ObjectInfo]:
        """Every object below a folder, in the order of their paths; none when there is no such folder."""
        client, key = self._address(folder)
        with translated(folder):
            metas = [meta for chunk in obstore.list(client, prefix=key.rstrip("/")) for meta in chunk]
        return sorted((_info(folder, meta) for meta in metas), key=lambda info: info.uri.path)

    async def list_objects_async(self, folder: StoreUri) -> list[ObjectInfo]:
        """Every object below a folder; see `list_objects`."""
        client, key = self._address(folder)
        with translated(folder):
            metas = [meta async for chunk in obstore.list(client, prefix=key.rstrip("/")) for meta in chunk]
        return sorted((_info(folder, meta) for meta in metas), key=lambda info: info.uri.path)

    def children(self, folder: StoreUri) -> tuple[list[ObjectInfo], list[StoreUri]]:
        """The objects and the folders right in a folder, without looking further down."""
        client, key = self._address(folder)
        with translated(folder):
            answer = obstore.list_with_delimiter(client, prefix=key.rstrip("/"))
        files = sorted((_info(folder, meta) for meta in answer["objects"]), key=lambda info: info.uri.path)
        return files, sorted((_uri_of(folder, path) for path in answer["common_prefixes"]), key=str)

    def put(self, uri: StoreUri, content: bytes) -> None:
        """Writes an object, whatever was there; on a file system it has reached the disk afterwards."""
        self._put(uri, content, overwrite=True)

    def put_if_absent(self, uri: StoreUri, content: bytes) -> None:
        """Writes an object that nobody has written yet: of several writers one succeeds.

        Raises:
            AlreadyExists: when somebody has.
        """
        self._put(uri, content, overwrite=False)

    async def put_if_absent_async(self, uri: StoreUri, content: bytes) -> None:
        """Writes an object that nobody has written yet; see `put_if_absent`."""
        client, key = self._address(uri)
        with translated(uri):
            await obstore.put_async(client, key, content, mode="create")

    def copy(self, source: StoreUri, target: StoreUri) -> None:
        """Copies within one store, without the content passing through here."""
        client, key = self._address(source)
        with translated(source):
            obstore.copy(client, key, self._address(target)[1])

    def delete(self, uri: StoreUri) -> None:
        """Deletes an object; one that is not there is deleted already."""
        client, key = self._address(uri)
        with translated(uri):
            try:
                obstore.delete(client, key)
            except FileNotFoundError:
                return

    def download(self, info: ObjectInfo, target: Path) -> None:
        """Writes an object's content to a local file, which appears only when it is whole."""
        partial = target.with_name(f"{target.name}.part")
        with partial.open("wb") as file:
            for chunk in self.stream(info):
                file.write(chunk)
        partial.replace(target)

    def _put(self, uri: StoreUri, content: bytes, *, overwrite: bool) -> None:
        client, key = self._address(uri)
        with translated(uri):
            obstore.put(client, key, content, mode="overwrite" if overwrite else "create")
            if uri.scheme == "file":
                _to_disk(Path(uri.path))

    def _address(self, uri: StoreUri) -> tuple[ObjectStore, str]:
        with self._lock:
            if uri.root not in self._clients:
                with translated(uri):
                    self._clients[uri.root] = self._connect(uri)
            return self._clients[uri.root], uri.path.lstrip("/")

    def _connect(self, uri: StoreUri) -> ObjectStore:
        options = _client_options()
        match uri.scheme:
            case "s3":
                return S3Store(uri.bucket, client_options=options, retry_config=_RETRY)
            case "gs":
                return GCSStore(uri.bucket, client_options=options, retry_config=_RETRY)
            case "az":
                return AzureStore(uri.bucket, client_options=options, retry_config=_RETRY)
            case "file":
                return LocalStore("/")
        raise StoreError(f"{uri} has a scheme that no store here speaks; use s3://, gs://, az:// or file://")


def _client_options() -> ClientConfig:
    # Options given here replace all that obstore would read from the environment, AWS_ALLOW_HTTP included.
    plain = any(os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS)
    return {"connect_timeout": timedelta(seconds=5), "timeout": timedelta(seconds=30), "allow_http": plain}


def _info(folder: StoreUri, meta: ObjectMeta) -> ObjectInfo:
    return ObjectInfo(_uri_of(folder, meta["path"]), meta["size"], meta["e_tag"])


def _uri_of(neighbour: StoreUri, key: str) -> StoreUri:
    return StoreUri(neighbour.scheme, neighbour.bucket, f"/{key}" if neighbour.scheme == "file" else key)


def _to_disk(path: Path) -> None:
    """Waits until a file and its name, in a folder that may be new itself, would survive a power cut."""
    for place in (path, path.parent, path.parent.parent):
        handle = os.open(place, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
