"""Causal language models through transformers and peft: a Hugging Face folder, or one GGUF file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Self

import structlog
from peft import PeftModel
from torch import Tensor, nn

from perdure_api.spec import LoraSpec, TrainingSpec
from perdure_data.datasets import Record
from perdure_data.model_files import ModelFolder
from perdure_inference.loading import device_at_hand, dtype_for, load_causal_lm, source_of
from perdure_trainer.data.documents import Documents
from perdure_trainer.data.encoding import tokenize
from perdure_trainer.data.rows import Rows, TokenBatch, rows_of
from perdure_trainer.failures import ConfigError, DataError
from perdure_trainer.models.abilities import keeps_documents_apart, plain_head
from perdure_trainer.models.adapted_model import AdaptedModel
from perdure_trainer.models.adapter import adaptable_layers, adapted
from perdure_trainer.models.answers import exact_answers
from perdure_trainer.models.contract import Measured, Usage
from perdure_trainer.models.loading import (
    check_sequence_length,
    place_elsewhere,
    spare_memory,
)
from perdure_trainer.models.token_loss import linear_cross_entropy, linear_scores, scores

_log = structlog.get_logger()

_PERPLEXITY_LIMIT: Final = 1e30
"""exp() of a larger loss says nothing more, and would overflow."""


class CausalLm(AdaptedModel):
    """A causal language model, its tokenizer and a LoRA adapter."""

    def __init__(self, module: PeftModel, tokenizer: Any, folder: ModelFolder, training: TrainingSpec) -> None:
        super().__init__(module, tokenizer, folder, training, Usage("text-generation", _program(folder)))
        self._plain_head = plain_head(module.get_base_model())

    @classmethod
    def load(cls, folder: ModelFolder, lora: LoraSpec, training: TrainingSpec) -> Self:
        """See the contract."""
        device = device_at_hand()
        tokenizer, base = load_causal_lm(folder, dtype_for(training.precision, device))
        base.config.use_cache = False
        check_sequence_length(base, training.sequence_length)
        _check_vocabulary(base, tokenizer)
        base.to(device)
        if training.packing and not keeps_documents_apart(base):
            raise ConfigError(
                f"documents that are packed into one row would see each other in a {type(base).__name__}; set "
                "training.packing to false"
            )
        module = adapted(base, adaptable_layers(base), lora, training.seed, task="CAUSAL_LM")
        spare_memory(base, training)
        return cls(module, tokenizer, folder, training)

    def prepare(self, records: Iterable[Record], folder: Path) -> None:
        """See the contract."""
        census = tokenize(records, self._tokenizer, self._training.sequence_length, folder).census
        if census.truncated or census.dropped:
            _log.warning(
                "samples_cut",
                documents=census.documents,
                truncated=census.truncated,
                dropped_without_labels=census.dropped,
                sequence_length=self._training.sequence_length,
            )

    def loss(self, batch: TokenBatch) -> Tensor:
        """See the contract.

        Padding stands behind the text and no token looks ahead, so no attention mask is needed for it.
        """
        if self._plain_head:
            body, head = self._plain_head
            return linear_cross_entropy(self._hidden(body, batch), head, batch.targets)
        return nn.functional.cross_entropy(self._logits(batch).float(), batch.targets, reduction="sum")

    def measure(self, batch: TokenBatch) -> Mapping[str, float]:
        """See the contract."""
        if self._plain_head:
            body, head = self._plain_head
            losses, hits = linear_scores(self._hidden(body, batch), head, batch.targets)
        else:
            losses, hits = scores(self._logits(batch), batch.targets)
        answers, exact = exact_answers(batch, hits)
        return {
            "loss": losses.sum().item(),
            "tokens": batch.labels,
            "correct": hits.sum().item(),
            "answers": answers,
            "exact": exact,
        }

    def measured(self, sums: Mapping[str, float]) -> Measured:
        """See the contract."""
        mean_loss = sums["loss"] / sums["tokens"]
        metrics = {
            "eval_loss": mean_loss,
            "perplexity": min(_PERPLEXITY_LIMIT, math.exp(min(mean_loss, math.log(_PERPLEXITY_LIMIT)))),
            "token_accuracy": sums["correct"] / sums["tokens"],
        }
        counts = {"tokens": int(sums["tokens"])}
        if sums["answers"]:
            metrics["exact_match"] = sums["exact"] / sums["answers"]
            counts["answers"] = int(sums["answers"])
        return Measured(metrics, counts)

    def _hidden(self, body: Any, batch: TokenBatch) -> Tensor:
        """What a plain head reads, labels x width."""
        hidden: Tensor = body(input_ids=batch.tokens, use_cache=False, **self._where(batch)).last_hidden_state
        return hidden.flatten(0, 1)[batch.places]

    def _logits(self, batch: TokenBatch) -> Tensor:
        """Labels x vocabulary."""
        logits: Tensor = self.module(input_ids=batch.tokens, use_cache=False, **self._where(batch)).logits
        return logits.flatten(0, 1)[batch.places]

    def _where(self, batch: TokenBatch) -> dict[str, Tensor]:
        return {"position_ids": batch.positions} if self._training.packing else {}

    def _samples(self, documents: Documents, what: str) -> Rows:
        training = self._training
        rows = rows_of(
            documents, training.sequence_length, training.batch_size, training.seed, packing=training.packing
        )
        if len(rows) == 0:
            raise DataError(
                f"the dataset has {len(documents.ends)} documents with {len(documents.stored)} tokens {what}; at least "
                "2 tokens of a document, of which one is learnt, are needed. Use more data, or give dataset.evalUri"
            )
        return rows


def _program(folder: ModelFolder) -> str:
    base = {"pretrained_model_name_or_path": place_elsewhere(folder), **source_of(folder)}
    return (
        "from peft import PeftModel\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f"base = {json.dumps(base)}  # a copy of {folder.report.uri}\n"
        "tokenizer = AutoTokenizer.from_pretrained(**base)\n"
        'model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(**base), "adapter")\n'
    )


def _check_vocabulary(base: Any, tokenizer: Any) -> None:
    rows, words = base.get_input_embeddings().num_embeddings, len(tokenizer)
    if tokenizer.eos_token_id is None:
        raise ConfigError("the tokenizer has no end-of-text token (eos_token); add one to tokenizer_config.json")
    if words > rows:
        raise ConfigError(
            f"the tokenizer knows {words} tokens, but the model has embeddings for {rows} only; they do not belong "
            "together. Upload the tokenizer that came with the model"
        )
