"""The models that a process keeps: each is fetched and loaded once, and stays warm until others push it out."""

from __future__ import annotations

import gc
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import structlog
import torch

from perdure_api.uri import parse_uri
from perdure_data.errors import NotFound
from perdure_data.model_files import fetch_files, fetch_model
from perdure_data.models import ModelBroken, ModelUse, check_model_now
from perdure_data.stores import Stores
from perdure_inference.encoder import SentenceEncoder, check_pooling
from perdure_inference.errors import ModelUnfit, OutOfMemory
from perdure_inference.generator import TextGenerator

_ADAPTER: Final = ("adapter_config.json", "adapter_model.safetensors")
_SMALL_BYTES: Final = 1 << 20

log = structlog.get_logger(__name__)

Model = SentenceEncoder | TextGenerator
M = TypeVar("M", SentenceEncoder, TextGenerator)


class Models:
    """Loads and keeps models. To be used in one thread."""

    def __init__(self, stores: Stores, scratch: Path, keep: int) -> None:
        """Loads nothing yet.

        Args:
            stores: Where models are.
            scratch: Folder for what is downloaded.
            keep: So many models at most; the one that was asked least recently goes first.
        """
        self._stores = stores
        self._scratch = scratch
        self._keep = keep
        self._kept: OrderedDict[tuple[str, ...], Model] = OrderedDict()

    @property
    def kept(self) -> int:
        """How many models are loaded."""
        return len(self._kept)

    def encoder(self, uri: str) -> SentenceEncoder:
        """The sentence encoder of a URI.

        Raises:
            ModelError: its files are missing or broken.
            InferenceError: they are in order, and it cannot be used.
            StoreError: the store does not give it.
        """
        return self._model(("encoder", uri), lambda: self._load_encoder(uri))

    def generator(self, uri: str, adapter: str | None) -> TextGenerator:
        """The language model of a URI, with an adapter.

        Raises:
            ModelError, InferenceError, StoreError: as above.
        """
        return self._model(("generator", uri, adapter or ""), lambda: self._load_generator(uri, adapter))

    def use_of(self, uri: str) -> ModelUse:
        """What a model is for, by its architecture: one that could go on with a text is taken to.

        Raises:
            ModelError: its files are missing or broken.
        """
        try:
            check_model_now(self._stores, uri, ModelUse.GENERATION)
        except ModelBroken:
            check_model_now(self._stores, uri, ModelUse.EMBEDDING)
            return ModelUse.EMBEDDING
        return ModelUse.GENERATION

    def forget_all(self) -> None:
        """Makes room in memory; what is asked for again is loaded again."""
        self._kept.clear()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _model(self, key: tuple[str, ...], load: Callable[[], M]) -> M:
        if (kept := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            return kept  # type: ignore[return-value] # the key's first part says which
        while len(self._kept) >= self._keep:
            gone, _ = self._kept.popitem(last=False)
            log.info("model_dropped", model=gone[1])
        began = time.monotonic()
        try:
            model = self._loaded(load)
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            said = str(error).strip().partition("\n")[0][:300]
            raise ModelUnfit(f"model {key[1]} cannot be loaded: {said}; upload it whole, or use another") from error
        self._kept[key] = model
        log.info("model_loaded", model=key[1], kind=key[0], seconds=round(time.monotonic() - began, 1))
        return model

    def _loaded(self, load: Callable[[], M]) -> M:
        try:
            return load()
        except torch.OutOfMemoryError:
            self.forget_all()
        try:
            return load()
        except torch.OutOfMemoryError as error:
            raise OutOfMemory(
                f"the model does not fit into this GPU ({error}); use a smaller one, or a larger GPU"
            ) from error

    def _load_encoder(self, uri: str) -> SentenceEncoder:
        folder = fetch_model(self._stores, uri, self._scratch, ModelUse.EMBEDDING)
        check_pooling(lambda path: self._small(uri, path), uri)
        return SentenceEncoder.load(folder)

    def _load_generator(self, uri: str, adapter: str | None) -> TextGenerator:
        folder = fetch_model(self._stores, uri, self._scratch, ModelUse.GENERATION)
        if adapter is None:
            return TextGenerator.load(folder, None, folder.fingerprint)
        fetched, digest = fetch_files(self._stores, adapter, _ADAPTER, self._scratch)
        both = hashlib.sha256(f"{folder.fingerprint} {digest}".encode()).hexdigest()
        return TextGenerator.load(folder, fetched, f"sha256:{both}")

    def _small(self, uri: str, path: str) -> bytes | None:
        try:
            return self._stores.read(parse_uri(uri).child(path), limit_bytes=_SMALL_BYTES)
        except NotFound:
            return None
