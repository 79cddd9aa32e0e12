"""Documents as one long row of tokens, its held-out part, and the windows that are trained on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import torch

from perdure_data.datasets import Passage

if TYPE_CHECKING:
    from torch import Tensor

IGNORED: Final = -100
"""The target of a place that nothing is learnt from: cross entropy's own default."""
PASSAGES_AT_A_TIME: Final = 256

Tokens = npt.NDArray[np.int32]
Encode = Callable[[list[str]], list[list[int]]]


@dataclass(frozen=True)
class TokenRow:
    """Documents one after another, each with its end token."""

    tokens: Tokens
    ends: tuple[int, ...]
    """Where each document ends: the index behind its end token, rising."""

    def split(self, held_out_fraction: float) -> tuple[TokenRow, TokenRow]:
        """The part to train on and the part to hold out: the last documents, about that share of all tokens.

        A row of one document is cut inside it.
        """
        wanted = round(len(self.tokens) * (1 - held_out_fraction))
        borders = [end for end in self.ends if 0 < end < len(self.tokens)]
        cut = min(borders, key=lambda border: abs(border - wanted), default=wanted)
        return self._part(0, cut), self._part(cut, len(self.tokens))

    def _part(self, start: int, end: int) -> TokenRow:
        return TokenRow(self.tokens[start:end], tuple(place - start for place in self.ends if start < place <= end))


def tokenize(passages: Iterable[Passage], encode: Encode, end_token: int) -> TokenRow:
    """The tokens of passages, in their order; documents of white space only are left out."""
    pieces: list[Tokens] = []
    ends: list[int] = []
    length = 0
    for batch in _batched((passage for passage in passages if _worth(passage)), PASSAGES_AT_A_TIME):
        for passage, ids in zip(batch, encode([passage.text for passage in batch]), strict=True):
            tail = [end_token] if passage.ends_document else []
            pieces.append(np.asarray([*ids, *tail], dtype=np.int32))
            length += len(pieces[-1])
            if passage.ends_document:
                ends.append(length)
    return TokenRow(np.concatenate(pieces) if pieces else np.empty(0, np.int32), tuple(ends))


def _worth(passage: Passage) -> bool:
    return not passage.ends_document or bool(passage.text.strip())


def _batched(passages: Iterator[Passage], size: int) -> Iterator[list[Passage]]:
    while batch := list(islice(passages, size)):
        yield batch


@dataclass(frozen=True)
class TokenBatch:
    """Rows of tokens and what is to come after each of them."""

    inputs: Tensor
    """int64, rows x tokens."""
    targets: Tensor
    """int64, rows x tokens: the next token, or IGNORED."""
    labels: int
    """Targets that are not IGNORED."""

    def to(self, device: torch.device) -> TokenBatch:
        """The same on a device."""
        return TokenBatch(
            self.inputs.to(device, non_blocking=True), self.targets.to(device, non_blocking=True), self.labels
        )


class Windows:
    """A row of tokens as samples of one length; every token but the first is predicted exactly once an epoch."""

    def __init__(self, row: TokenRow, length: int) -> None:
        self._tokens = row.tokens
        self._length = length

    def __len__(self) -> int:
        return math.ceil(max(0, len(self._tokens) - 1) / self._length)

    def batch(self, indices: Sequence[int]) -> TokenBatch:
        """The windows of those numbers. The last window may be shorter: it is padded, and padding is no target."""
        windows = [self._tokens[index * self._length : (index + 1) * self._length + 1] for index in indices]
        width = max(len(window) for window in windows) - 1
        inputs = np.zeros((len(windows), width), np.int64)
        targets = np.full((len(windows), width), IGNORED, np.int64)
        for row, window in enumerate(windows):
            inputs[row, : len(window) - 1] = window[:-1]
            targets[row, : len(window) - 1] = window[1:]
        labels = sum(len(window) - 1 for window in windows)
        return TokenBatch(torch.from_numpy(inputs), torch.from_numpy(targets), labels)
