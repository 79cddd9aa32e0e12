"""What is computed together: rows of about the same length, as many as memory and speed allow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

ROWS: Final = 64
TOKENS: Final = 16_384
"""In a batch, padding included: enough for a GPU to be busy, and less than 1 GB of activations for a small encoder."""


def batches(lengths: Sequence[int], rows: int = ROWS, tokens: int = TOKENS) -> list[list[int]]:
    """Numbers of the rows of each batch, the longest rows first: what does not fit into memory is found out at once.

    Depends on nothing but the lengths: the same rows are always computed in the same company.

    Args:
        lengths: Tokens in each row.
        rows: Of a batch, at most.
        tokens: Of a batch, at most, once its rows are as long as the longest; a single row may have more.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    found: list[list[int]] = []
    for row in order:
        batch = found[-1] if found else []
        if batch and len(batch) < rows and (len(batch) + 1) * lengths[batch[0]] <= tokens:
            batch.append(row)
        else:
            found.append([row])
    return found
