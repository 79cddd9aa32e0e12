"""What a language model can do, found out by trying it rather than by its name."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn

from perdure_trainer.failures import ConfigError

_LEAST_CONTRAST: Final = 8.0
"""Packing may differ from documents of their own by rounding; a document that is seen differs far more."""
_FIRST, _SECOND = 7, 5


def keeps_documents_apart(base: Any) -> bool:
    """Whether positions that begin anew hide earlier documents of a row, as packing needs.

    A document is read on its own, behind another in a packed row, and behind it as its continuation.

    Raises:
        ConfigError: the model says nothing at all: its outputs are no numbers.
    """
    if "position_ids" not in inspect.signature(base.forward).parameters:
        return False
    device, vocabulary = base.device, base.get_input_embeddings().num_embeddings
    tokens = (torch.arange(_FIRST + _SECOND, device=device) * 7919 % vocabulary)[None]
    alone = torch.arange(_SECOND, device=device)[None]
    packed = torch.cat([torch.arange(_FIRST, device=device), alone[0]])[None]
    continued = torch.arange(_FIRST + _SECOND, device=device)[None]
    with _measuring(base):
        expected = _logits(base, tokens[:, _FIRST:], alone)
        found = _logits(base, tokens, packed)[:, _FIRST:]
        seen = _logits(base, tokens, continued)[:, _FIRST:]
    if not expected.isfinite().all():
        raise ConfigError(
            "what the base model says to any text is no number (nan or infinite); its weights are broken, or "
            "training.precision does not suit them"
        )
    return bool((found - expected).abs().max() * _LEAST_CONTRAST <= (seen - expected).abs().max())


def plain_head(base: Any) -> tuple[Any, nn.Linear] | None:
    """The body and the output layer of a model whose logits are just what that layer makes of the body's output.

    None where there is more to it (a cap, a scale, an adapter), or where the output layer is trained.
    """
    body, head = getattr(base, base.base_model_prefix, None), base.get_output_embeddings()
    if body is None or type(head) is not nn.Linear or any(part.requires_grad for part in head.parameters()):
        return None
    tokens = torch.arange(_FIRST, device=base.device)[None]
    with _measuring(base):
        hidden = getattr(body(input_ids=tokens, use_cache=False), "last_hidden_state", None)
        if hidden is None or not torch.equal(head(hidden).float(), _logits(base, tokens, None)):
            return None
    return body, head


def _logits(base: Any, tokens: Tensor, positions: Tensor | None) -> Tensor:
    where = {} if positions is None else {"position_ids": positions}
    logits: Tensor = base(input_ids=tokens, use_cache=False, **where).logits
    return logits.float()


@contextmanager
def _measuring(base: Any) -> Iterator[None]:
    training = base.training
    base.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        base.train(training)
