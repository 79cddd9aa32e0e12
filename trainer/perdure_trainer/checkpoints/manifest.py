"""What a checkpoint says of itself: its commit, and the proof of its content."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

from pydantic import ValidationError

from perdure_api import names
from perdure_api.model import TolerantModel

FORMAT: Final = 1
"""Raised when an older trainer could no longer read a checkpoint."""
MANIFEST_NAME: Final = names.CHECKPOINT_MANIFEST
MANIFEST_LIMIT_BYTES: Final = 2**20
_SEAL: Final = "seal"


class ManifestError(Exception):
    """The content is no manifest that can be trusted; the message says why."""


class FileEntry(TolerantModel):
    """One payload file."""

    name: str
    size_bytes: int
    sha256: str

    @classmethod
    def of(cls, name: str, content: bytes) -> FileEntry:
        """The entry of a file's content."""
        return cls(name=name, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())

    def describes(self, content: bytes) -> bool:
        """Whether the content is what was written."""
        return self == FileEntry.of(self.name, content)


class Manifest(TolerantModel):
    """A checkpoint exists once this was written, which is done last."""

    format: int = FORMAT
    job_uid: str
    attempt: int
    step: int
    time: str
    """RFC 3339."""
    files: list[FileEntry]
    fingerprints: dict[str, str]
    """`sha256:…` of what training depends on: `dataset`, `model`, `tokenizer`, `config`."""
    recipe: dict[str, Any]
    """The part of the spec that `config` is the fingerprint of."""

    def to_bytes(self) -> bytes:
        """What is written: JSON, with a seal over all the rest of it."""
        document = self.model_dump(mode="json", by_alias=True)
        return json.dumps({**document, _SEAL: _digest(document)}).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Manifest:
        """What was written.

        Raises:
            ManifestError: it is another thing, or of a newer trainer. A bit that flipped in a fingerprint must not
                look like another model.
        """
        try:
            document = dict(json.loads(content))
            seal = document.pop(_SEAL, None)
        except (ValueError, TypeError, RecursionError) as error:
            raise ManifestError(f"{MANIFEST_NAME} is no JSON object: {error}") from error
        form = document.get("format")
        if isinstance(form, int) and form > FORMAT:
            raise ManifestError(f"format {form} is of a newer trainer; this one reads up to {FORMAT}")
        if seal != _digest(document):
            raise ManifestError(f"{MANIFEST_NAME} is not what was written: its seal does not fit")
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise ManifestError(f"{MANIFEST_NAME} is unreadable ({error.error_count()} problems)") from error


def _digest(document: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def differences(found: dict[str, Any], expected: dict[str, Any], prefix: str = "") -> list[str]:
    """Where two recipes differ, such as `lora.rank 8 instead of 16`."""
    result: list[str] = []
    for key in sorted(found.keys() | expected.keys()):
        left, right = found.get(key), expected.get(key)
        if isinstance(left, dict) and isinstance(right, dict):
            result += differences(left, right, f"{prefix}{key}.")
        elif left != right:
            result.append(f"{prefix}{key} {left} instead of {right}")
    return result
