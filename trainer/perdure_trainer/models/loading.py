"""What models of every kind are asked and told when they are loaded."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from perdure_api.spec import TrainingSpec
from perdure_data.model_files import ModelFolder
from perdure_trainer.failures import ConfigError


def check_sequence_length(base: Any, sequence_length: int) -> None:
    """Raises ConfigError when the model reads less than a sequence."""
    limit = getattr(base.config, "max_position_embeddings", None)
    if limit is not None and sequence_length > limit:
        raise ConfigError(
            f"training.sequenceLength is {sequence_length}, but this model reads at most {limit} tokens; lower it"
        )


def spare_memory(base: Any, training: TrainingSpec) -> None:
    """Computes activations twice instead of keeping them, where that is wished for.

    The adapter must be there already. Transformers and peft make the embeddings require gradients then, for the
    reentrant kind of it; models that write into their embeddings, as CSM does, could not do that any more.
    """
    if training.gradient_checkpointing:
        base.activation_checkpointing_enable({"use_reentrant": False})
        base.disable_input_require_grads()


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """`sha256:…` of what makes tokens of a text."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def place_elsewhere(folder: ModelFolder) -> str:
    """Where a program that runs without us finds the base model: where it was, or in a folder of that name."""
    return str(folder.path) if folder.report.uri.startswith("file://") else "model"
