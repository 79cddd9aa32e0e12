"""Brings a base model to this machine."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

from perdure_api.uri import parse_uri
from perdure_data.models import ModelReport, check_model_now
from perdure_trainer.models.contract import ModelFolder

if TYPE_CHECKING:
    from perdure_data.stores import ObjectInfo, Stores

_FILES_AT_A_TIME: Final = 8


def fetch_model(stores: Stores, uri: str, scratch: Path) -> ModelFolder:
    """The model of a URI as a local folder: in place for file://, else downloaded into scratch.

    Raises:
        ModelError: it cannot be trained.
        Unavailable: the store is away; try again later.
    """
    report = check_model_now(stores, uri)
    place = parse_uri(uri)
    if place.scheme == "file":
        path = Path(place.path).parent if place.path.endswith(".gguf") else Path(place.path)
    else:
        path = scratch / "models" / _cache_key(report)
        path.mkdir(parents=True, exist_ok=True)
    names = sorted(info.uri.path.rpartition("/")[2] for info in report.files)
    with ThreadPoolExecutor(_FILES_AT_A_TIME) as pool:
        if place.scheme != "file":
            list(pool.map(lambda info: _download(stores, info, path), report.files))
        digests = list(pool.map(lambda name: _digest(path / name), names))
    lines = "".join(f"{name} {digest}\n" for name, digest in zip(names, digests, strict=True))
    return ModelFolder(path, report, f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}")


def _cache_key(report: ModelReport) -> str:
    identity = "".join(f"{info.uri} {info.size_bytes} {info.etag}\n" for info in report.files)
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _download(stores: Stores, info: ObjectInfo, folder: Path) -> None:
    target = folder / info.uri.path.rpartition("/")[2]
    if not target.exists():
        stores.download(info, target)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
