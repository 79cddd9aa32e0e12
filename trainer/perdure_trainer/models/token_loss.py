"""Cross entropy at the output of a language model, without all logits at once."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn

_LOGITS_AT_A_TIME: Final = 2**24
"""64 MiB of float32. A batch of 8 x 1024 tokens and a vocabulary of 128,000 would be 4 GiB, several times over.

Smaller parts are slower: with a vocabulary of 49,000, a step of 16 MiB takes a tenth more, and one of 4 MiB twice that.
"""


def linear_cross_entropy(hidden: Tensor, head: nn.Linear, targets: Tensor) -> Tensor:
    """The cross entropy of a frozen output layer, summed over the targets, as a float32 scalar.

    Args:
        hidden: labels x width, what the output layer reads.
        head: the output layer, which gets no gradient.
        targets: labels, int64.
    """
    loss: Tensor = _LinearCrossEntropy.apply(hidden, head.weight, head.bias, targets)
    return loss


def scores(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The cross entropy of each target (float32), and whether it is the most likely token."""
    return nn.functional.cross_entropy(logits.float(), targets, reduction="none"), logits.argmax(1) == targets


def linear_scores(hidden: Tensor, head: nn.Linear, targets: Tensor) -> tuple[Tensor, Tensor]:
    """`scores` behind an output layer, without all logits at once."""
    at_a_time = _labels_at_a_time(head.weight)
    parts = [
        scores(head(hidden[start : start + at_a_time]), targets[start : start + at_a_time])
        for start in range(0, len(hidden), at_a_time)
    ]
    losses, hits = zip(*parts, strict=True)
    return torch.cat(losses), torch.cat(hits)


def _labels_at_a_time(weight: Tensor) -> int:
    return max(1, _LOGITS_AT_A_TIME // len(weight))


class _LinearCrossEntropy(torch.autograd.Function):
    """Finds the gradient together with the loss: each part of the logits is needed once and then forgotten."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
        total = hidden.new_zeros((), dtype=torch.float32)
        gradient = torch.empty_like(hidden) if hidden.requires_grad else None
        at_a_time = _labels_at_a_time(weight)
        for start in range(0, len(hidden), at_a_time):
            part = slice(start, start + at_a_time)
            logits = nn.functional.linear(hidden[part], weight, bias).float()
            wanted = targets[part, None]
            norm = logits.logsumexp(1, keepdim=True)
            total += (norm - logits.gather(1, wanted)).sum()
            if gradient is not None:
                softmax = logits.sub_(norm).exp_()
                softmax.scatter_add_(1, wanted, softmax.new_full((len(wanted), 1), -1.0))
                gradient[part] = softmax.to(weight.dtype) @ weight
        ctx.gradient = gradient
        return total

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None, None]:
        return ctx.gradient * outer.to(ctx.gradient.dtype), None, None, None
