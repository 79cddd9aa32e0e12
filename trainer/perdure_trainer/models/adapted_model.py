"""What every model of transformers with an adapter by peft does alike."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from peft import PeftModel

from perdure_api.spec import TrainingSpec
from perdure_data.model_files import ModelFolder
from perdure_trainer.data.documents import Documents
from perdure_trainer.models.contract import Corpus, Samples, TrainableModel, Usage
from perdure_trainer.models.loading import tokenizer_fingerprint


class AdaptedModel(TrainableModel):
    """A model with its tokenizer and a LoRA adapter, and datasets that are kept as documents."""

    module: PeftModel

    def __init__(
        self, module: PeftModel, tokenizer: Any, folder: ModelFolder, training: TrainingSpec, usage: Usage
    ) -> None:
        self.module = module
        self.device = next(module.parameters()).device
        self.fingerprints = {"model": folder.fingerprint, "tokenizer": tokenizer_fingerprint(tokenizer)}
        self.usage = usage
        self._tokenizer = tokenizer
        self._training = training

    @abstractmethod
    def _samples(self, documents: Documents, what: str) -> Samples:
        """The samples of some documents.

        Args:
            documents: some of those that `prepare` wrote.
            what: what they are for, in a sentence about too few of them.

        Raises:
            DataError: there are too few.
        """

    def corpus(self, training: Path, held_out: Path | float) -> Corpus:
        """See the contract."""
        documents = Documents.in_folder(training)
        if isinstance(held_out, Path):
            kept, rest = documents, Documents.in_folder(held_out)
        else:
            kept, rest = documents.split(held_out)
        return Corpus(self._samples(kept, "to train on"), self._samples(rest, "to hold out"))

    def without_adapter(self) -> AbstractContextManager[None]:
        """See the contract."""
        context: AbstractContextManager[None] = self.module.disable_adapter()
        return context

    def save_adapter(self, folder: Path, base_uri: str) -> None:
        """See the contract."""
        self.module.peft_config["default"].base_model_name_or_path = base_uri
        # "auto" would ask the hub whether the vocabulary has grown; the embeddings are frozen here.
        self.module.save_pretrained(str(folder), save_embedding_layers=False)
