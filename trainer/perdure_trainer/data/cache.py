"""Tokens of a dataset, kept beside the checkpoints, so that the next attempt need not read the dataset again.

    <run>/tokens/<key>/{<file>-00000, <file>-00001, …, manifest}

The manifest is written last. Loading trusts nothing: every byte is hashed, and in any doubt the dataset is read anew.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

import structlog
from pydantic import ValidationError

from perdure_api import names
from perdure_api.model import TolerantModel
from perdure_api.uri import StoreUri
from perdure_data.errors import NotFound, StoreError, TooLarge, Unavailable
from perdure_data.stores import Stores

_log = structlog.get_logger()

FORMAT: Final = 1
"""Raised when the same dataset and settings give other tokens than in an earlier release."""
PART_BYTES: Final = 64 * 2**20
"""A file is kept in parts of this size: one of them is in memory at a time."""
MANIFEST_LIMIT_BYTES: Final = 16 * 2**20
_MANIFEST_NAME: Final = names.TOKENS_MANIFEST


class Part(TolerantModel):
    """A piece of a local file."""

    file: str
    name: str
    size_bytes: int
    sha256: str


class CacheManifest(TolerantModel):
    """What is kept, and what it was made from."""

    dataset_fingerprint: str
    parts: list[Part]


class CacheBroken(Exception):
    """What is kept is not what was written."""


def cache_key(*identity: Any) -> str:
    """A name for the tokens that follow from all of this (JSON values)."""
    canonical = json.dumps([FORMAT, *identity], sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class TokenCache:
    """The tokens of one run."""

    stores: Stores
    folder: StoreUri

    def load(self, key: str, target: Path) -> str | None:
        """Writes what is kept under a key into a folder; the dataset's fingerprint, or None where nothing whole is.

        Raises:
            Unavailable: the store is away; try again later.
        """
        place = self.folder.child(key)
        try:
            manifest = self._manifest(place)
            target.mkdir(parents=True, exist_ok=True)
            for name in {part.file for part in manifest.parts}:
                (target / name).write_bytes(b"")
            for part in manifest.parts:
                with (target / part.file).open("ab") as file:
                    file.write(self._content(place, part))
        except NotFound:
            return None
        except Unavailable:
            raise
        except (CacheBroken, StoreError) as error:
            _log.warning("token_cache_broken", uri=str(place), message=f"{error}; the dataset is read again")
            return None
        return manifest.dataset_fingerprint

    def keep(self, key: str, source: Path, dataset_fingerprint: str, abandoned: Event) -> None:
        """Keeps all files of a folder under a key. That it fails is told, and harms nobody."""
        place = self.folder.child(key)
        parts: list[Part] = []
        try:
            for path in sorted(source.iterdir()):
                with path.open("rb") as file:
                    number = 0
                    # An empty file has one part as well.
                    while (content := file.read(PART_BYTES)) or number == 0:
                        if abandoned.is_set():
                            return
                        name = f"{path.name}-{number:05}"
                        self.stores.put(place.child(name), content)
                        digest = hashlib.sha256(content).hexdigest()
                        parts.append(Part(file=path.name, name=name, size_bytes=len(content), sha256=digest))
                        number += 1
            manifest = CacheManifest(dataset_fingerprint=dataset_fingerprint, parts=parts).model_dump_json().encode()
            self.stores.put(place.child(_MANIFEST_NAME), f"{_digest(manifest)}\n".encode() + manifest)
        except (StoreError, OSError) as error:
            _log.warning("tokens_not_kept", uri=str(place), message=str(error))

    def forget(self) -> None:
        """Deletes everything that is kept; what cannot be deleted stays."""
        try:
            for info in self.stores.list_objects(self.folder):
                self.stores.delete(info.uri)
        except StoreError as error:
            _log.warning("tokens_not_deleted", uri=str(self.folder), message=str(error))

    def _manifest(self, place: StoreUri) -> CacheManifest:
        content = self.stores.read(place.child(_MANIFEST_NAME), limit_bytes=MANIFEST_LIMIT_BYTES)
        digest, _, body = content.partition(b"\n")
        if digest != _digest(body).encode():
            raise CacheBroken("its manifest is not what was written")
        try:
            return CacheManifest.model_validate_json(body)
        except ValidationError as error:
            raise CacheBroken(f"its manifest is unreadable ({error.error_count()} problems)") from error

    def _content(self, place: StoreUri, part: Part) -> bytes:
        try:
            content = self.stores.read(place.child(part.name), limit_bytes=part.size_bytes)
        except (NotFound, TooLarge) as error:
            raise CacheBroken(str(error)) from error
        if len(content) != part.size_bytes or _digest(content) != part.sha256:
            raise CacheBroken(f"{part.name} is not what was written: {len(content)} of {part.size_bytes} bytes")
        return content


class Keeper:
    """Keeps tokens in the background."""

    def __init__(self, cache: TokenCache) -> None:
        self._cache = cache
        self._abandoned = Event()
        self._threads: list[Thread] = []

    def keep(self, key: str, source: Path, dataset_fingerprint: str) -> None:
        """Begins to keep the files of a folder."""
        arguments = (key, source, dataset_fingerprint, self._abandoned)
        thread = Thread(target=self._cache.keep, args=arguments, daemon=True, name="tokens")
        thread.start()
        self._threads.append(thread)

    def wait(self) -> None:
        """Waits until everything is kept."""
        for thread in self._threads:
            thread.join()

    def forget(self) -> None:
        """Ends what is under way, and deletes everything."""
        self._abandoned.set()
        self.wait()
        self._cache.forget()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
