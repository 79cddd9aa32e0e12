"""Which answers a model would give word for word, found without letting it write.

Greedy writing takes the most likely token again and again. It writes an answer exactly when, behind the question and
each beginning of the answer, the most likely token is the answer's next one: which one pass over the answer shows for
all its tokens at once. That is a few hundred times cheaper than writing, so that no answer is too long to be counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from perdure_trainer.data.rows import TokenBatch


def exact_answers(batch: TokenBatch, hits: Tensor) -> tuple[int, int]:
    """How many documents of a batch are a question and one answer, and how many of these answers are exact.

    Such a document is learnt from one place to its end, and not from its beginning: plain text has no question, and a
    conversation of several turns no single answer.

    Args:
        batch: rows of documents.
        hits: labels, bool: whether the target is the most likely token.
    """
    begins = (batch.positions == 0).flatten()
    numbers = begins.cumsum(0) - 1
    documents = numbers[batch.places]
    count = int(numbers[-1]) + 1
    labels = torch.bincount(documents, minlength=count)
    misses = torch.bincount(documents[~hits], minlength=count)
    first = torch.full_like(labels, len(begins)).scatter_reduce(0, documents, batch.places, "amin")
    last = torch.full_like(labels, -1).scatter_reduce(0, documents, batch.places, "amax")
    is_answer = (last - first + 1 == labels) & (first > begins.nonzero().flatten())
    return int(is_answer.sum()), int((is_answer & (misses == 0)).sum())
