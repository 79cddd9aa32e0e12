"""From a dataset in a store to samples: read, or taken over from an earlier attempt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from perdure_api import names
from perdure_data.datasets import DatasetReader, Source
from perdure_data.datasets.files import locate
from perdure_trainer.data.cache import Keeper, TokenCache, cache_key

if TYPE_CHECKING:
    from perdure_data.stores import Stores
    from perdure_trainer.models.contract import Corpus, TrainableModel
    from perdure_trainer.patience import Patience
    from perdure_trainer.settings import Settings

_log = structlog.get_logger()


@dataclass(frozen=True)
class Dataset:
    """A dataset as samples."""

    corpus: Corpus
    fingerprints: dict[str, str]
    """`sha256:…` of the content: `dataset`, and `held_out` where that is a dataset of its own."""


class DatasetPreparation:
    """Makes samples of a run's dataset, and keeps the tokens for the next attempt."""

    def __init__(self, settings: Settings, stores: Stores, patience: Patience) -> None:
        self._settings = settings
        self._stores = stores
        self._patience = patience
        self._cache = TokenCache(stores, settings.run_uri.child(names.TOKENS_FOLDER))
        self._keeper = Keeper(self._cache)

    def prepare(self, model: TrainableModel) -> Dataset:
        """The samples for a model.

        Raises:
            DatasetError: the dataset is not there, or not what its format promises.
            DataError: too little to train on, or to hold out.
        """
        spec = self._settings.dataset
        folder = self._settings.scratch / "tokens"
        fingerprints = {"dataset": self._fill(folder / "training", Source.training(spec), model)}
        if source := Source.held_out(spec):
            fingerprints["held_out"] = self._fill(folder / "held-out", source, model)
        corpus = model.corpus(folder / "training", folder / "held-out" if source else spec.eval_fraction)
        _log.info("dataset_read", uri=spec.uri, sequences=len(corpus.training), held_out=len(corpus.held_out))
        return Dataset(corpus, fingerprints)

    def forget(self) -> None:
        """Deletes what was kept for a next attempt."""
        self._keeper.forget()

    def _fill(self, folder: Path, source: Source, model: TrainableModel) -> str:
        """Fills a folder with the tokens of a dataset, whose fingerprint it returns."""
        key = self._key(source, model)
        if key and (fingerprint := self._patience.call(lambda: self._cache.load(key, folder))):
            _log.info("tokens_reused", uri=str(source.uri))
            return fingerprint
        reader = DatasetReader(self._stores, source)
        self._patience.call(lambda: model.prepare(reader.records(), folder))
        if key and self._settings.place.leads:
            self._keeper.keep(key, folder, reader.fingerprint)
        return reader.fingerprint

    def _key(self, source: Source, model: TrainableModel) -> str | None:
        """A name for the tokens, from what is known without reading; None where a store has no tags."""
        files = self._patience.call(lambda: locate(self._stores, source))
        if any(info.etag is None for info in files):
            return None
        identity = [[str(info.uri), info.size_bytes, info.etag] for info in files]
        return cache_key(identity, model.fingerprints, self._settings.recipe)
