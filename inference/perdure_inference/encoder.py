"""Texts into vectors, by a sentence encoder: a transformer whose last hidden states are pooled."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from perdure_data.model_files import ModelFolder
from perdure_data.models import ModelLayout
from perdure_inference.batches import batches
from perdure_inference.errors import Interrupted, InvalidRequest, ModelUnfit
from perdure_inference.loading import device_at_hand

_SETTINGS: Final = "sentence_bert_config.json"
_UNLIMITED: Final = 1 << 20
"""Tokenizers without a limit of their own say 10^30."""
_LONGEST: Final = 8192


@dataclass(frozen=True)
class Vectors:
    """What an encoder makes of some texts."""

    rows: NDArray[np.float32]
    """(texts, dimension)"""
    tokens: int
    """That were read."""
    truncated: int
    """Texts of which only the beginning was read."""


class SentenceEncoder:
    """A transformer and its tokenizer; mean pooling over a text's tokens."""

    def __init__(self, model: Any, tokenizer: Any, limit_tokens: int, fingerprint: str) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._limit_tokens = limit_tokens
        self.fingerprint = fingerprint
        self.dimension = int(model.config.hidden_size)

    @classmethod
    def load(cls, folder: ModelFolder) -> Self:
        """The encoder of a folder, on the GPU where there is one.

        Raises:
            ModelUnfit: it is none.
        """
        if folder.report.layout is not ModelLayout.HUGGING_FACE:
            raise ModelUnfit(
                f"model {folder.report.uri}: found a GGUF file; expected a folder with config.json and *.safetensors: "
                f"vectors are not made with GGUF"
            )
        tokenizer = AutoTokenizer.from_pretrained(folder.path)
        # 32 bits everywhere: encoders are small, and vectors of one model should agree wherever they are made.
        model = AutoModel.from_pretrained(folder.path, dtype=torch.float32).to(device_at_hand()).eval()
        if not tokenizer.is_fast or tokenizer.pad_token_id is None or not hasattr(model.config, "hidden_size"):
            raise ModelUnfit(
                f"model {folder.report.uri}: found a {type(model).__name__} with a {type(tokenizer).__name__}; "
                f"expected a sentence encoder with tokenizer.json and a padding token, such as all-MiniLM-L6-v2"
            )
        return cls(model, tokenizer, _limit_tokens(folder.path, tokenizer, model), folder.fingerprint)

    def embed(self, texts: Sequence[str], *, normalize: bool, given_up: Callable[[], bool] = lambda: False) -> Vectors:
        """The vectors of texts, in their order. The same texts in the same order give the same bits.

        Args:
            texts: At least one.
            normalize: To length 1.
            given_up: Asked between batches.

        Raises:
            Interrupted: it was given up.
        """
        encodings = self._encodings(texts)
        ids = [encoding.ids for encoding in encodings]
        rows = np.empty((len(ids), self.dimension), dtype=np.float32)
        for batch in batches([len(each) for each in ids]):
            if given_up():
                raise Interrupted("given up")
            rows[batch] = self._pooled([ids[row] for row in batch], normalize=normalize).cpu().numpy()
        return Vectors(rows, *_counts(encodings))

    def count(self, texts: Sequence[str]) -> tuple[int, int]:
        """Tokens that are read of texts, and texts of which only the beginning is."""
        return _counts(self._encodings(texts))

    def _encodings(self, texts: Sequence[str]) -> list[Any]:
        found: list[Any] = self._tokenizer(list(texts), truncation=True, max_length=self._limit_tokens).encodings
        return found

    @torch.inference_mode()
    def _pooled(self, ids: list[list[int]], *, normalize: bool) -> Tensor:
        device = self._model.device
        width = max(len(each) for each in ids)
        padding = self._tokenizer.pad_token_id
        tokens = torch.tensor([each + [padding] * (width - len(each)) for each in ids], device=device)
        mask = torch.tensor([[1] * len(each) + [0] * (width - len(each)) for each in ids], device=device)
        hidden = self._model(input_ids=tokens, attention_mask=mask).last_hidden_state
        weights = mask[..., None].to(hidden.dtype)
        mean = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
        pooled: Tensor = torch.nn.functional.normalize(mean, dim=1) if normalize else mean
        return pooled


def _counts(encodings: Sequence[Any]) -> tuple[int, int]:
    tokens = sum(len(encoding.ids) for encoding in encodings)
    return tokens, sum(bool(encoding.overflowing) for encoding in encodings)


def check_pooling(read: Callable[[str], bytes | None], uri: str) -> None:
    """Looks whether a model is one of mean pooling, where its folder says how it pools.

    Args:
        read: The content of a file of the folder by its path in it; None: it is not there.
        uri: Of the model.

    Raises:
        ModelUnfit: it pools in another way, which would give other vectors than its makers meant.
    """
    content = read("1_Pooling/config.json")
    if content is None:
        return
    try:
        found: dict[str, Any] = dict(json.loads(content))
    except (ValueError, TypeError) as error:
        raise ModelUnfit(f"model {uri}: 1_Pooling/config.json is no JSON object ({error}); upload it again") from error
    ways = sorted(name for name, value in found.items() if name.startswith("pooling_mode_") and value is True)
    if ways and ways != ["pooling_mode_mean_tokens"]:
        raise ModelUnfit(
            f"model {uri}: 1_Pooling/config.json asks for {', '.join(ways)}; expected pooling_mode_mean_tokens, the "
            f"only one that is supported. Use another encoder, such as all-MiniLM-L6-v2"
        )


def refuse_no_texts(texts: Sequence[str]) -> None:
    """Raises InvalidRequest when there is nothing to do."""
    if not texts:
        raise InvalidRequest("found no texts; expected one or more: give texts")


def _limit_tokens(path: Path, tokenizer: Any, model: Any) -> int:
    """How much of a text the model reads: what its makers say, else what its positions allow."""
    limits = [_LONGEST]
    settings = path / _SETTINGS
    if settings.is_file():
        said = json.loads(settings.read_text()).get("max_seq_length")
        limits += [said] if isinstance(said, int) and said > 0 else []
    if tokenizer.model_max_length < _UNLIMITED:
        limits.append(tokenizer.model_max_length)
    limits.append(getattr(model.config, "max_position_embeddings", _LONGEST))
    return min(limits)
