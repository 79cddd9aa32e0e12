"""Brings a model to this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from perdure_api.uri import parse_uri
from perdure_data.models import ModelReport, ModelUse, check_model_now

if TYPE_CHECKING:
    from perdure_api.uri import StoreUri
    from perdure_data.stores import ObjectInfo, Stores

_FILES_AT_A_TIME: Final = 8


@dataclass(frozen=True)
class ModelFolder:
    """A model on this machine."""

    path: Path
    report: ModelReport
    fingerprint: str
    """`sha256:…` over configuration, tokenizer and weights."""


def fetch_model(stores: Stores, uri: str, scratch: Path, use: ModelUse = ModelUse.TRAINING) -> ModelFolder:
    """The model of a URI as a local folder: in place for file://, else downloaded into scratch.

    Raises:
        ModelError: it cannot be used so.
        Unavailable: the store is away; try again later.
    """
    report = check_model_now(stores, uri, use)
    place = parse_uri(uri)
    folder = place.parent if place.path.endswith(".gguf") else place
    path, fingerprint = _fetched(stores, folder, report.files, scratch)
    return ModelFolder(path, report, fingerprint)


def fetch_files(stores: Stores, uri: str, names: Sequence[str], scratch: Path) -> tuple[Path, str]:
    """Some files of a folder as a local folder, in the same way; and `sha256:…` over them.

    Raises:
        StoreError: one is not there, or cannot be read.
    """
    place = parse_uri(uri)
    return _fetched(stores, place, [stores.head(place.child(name)) for name in names], scratch)


def _fetched(stores: Stores, folder: StoreUri, files: Sequence[ObjectInfo], scratch: Path) -> tuple[Path, str]:
    """Where files of one folder are on this machine, and `sha256:…` over their names and contents."""
    if folder.scheme == "file":
        path = Path(folder.path)
    else:
        path = scratch / "models" / _cache_key(files)
        path.mkdir(parents=True, exist_ok=True)
    names = sorted(info.uri.path.rpartition("/")[2] for info in files)
    with ThreadPoolExecutor(_FILES_AT_A_TIME) as pool:
        if folder.scheme != "file":
            list(pool.map(lambda info: _download(stores, info, path), files))
        digests = list(pool.map(lambda name: _digest(path / name), names))
    lines = "".join(f"{name} {digest}\n" for name, digest in zip(names, digests, strict=True))
    return path, f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def _cache_key(files: Sequence[ObjectInfo]) -> str:
    identity = "".join(f"{info.uri} {info.size_bytes} {info.etag}\n" for info in files)
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _download(stores: Stores, info: ObjectInfo, folder: Path) -> None:
    target = folder / info.uri.path.rpartition("/")[2]
    if not target.exists():
        stores.download(info, target)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
