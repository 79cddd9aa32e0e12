"""Utterances as samples: the tokens of a transcript, then the codec's frames of its recording, then the end.

On disk an utterance is one document: transcript tokens, which are not learnt, and the codes of all frames, which are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from perdure_trainer.data.documents import Documents, Stored, stored, tokens_of
from perdure_trainer.data.rows import bucketed

Codes = npt.NDArray[np.int32]
"""Frames x codebooks."""


@dataclass(frozen=True)
class Marks:
    """Numbers that the model gives to what is neither text nor sound."""

    codebooks: int
    frame_token: int
    """Stands among the tokens where a frame is."""
    end_token: int
    """The same of the last frame, which says that nothing follows."""
    end_code: int
    """What that frame is made of."""


@dataclass(frozen=True)
class UtteranceBatch:
    """Rows of tokens and frames."""

    tokens: Tensor
    """int64, rows x width."""
    codes: Tensor
    """int64, rows x width x codebooks."""
    is_frame: Tensor
    """bool, rows x width."""
    labels: int
    """How many frames are learnt."""

    def to(self, device: torch.device) -> UtteranceBatch:
        """The same on a device."""
        return UtteranceBatch(
            self.tokens.to(device, non_blocking=True),
            self.codes.to(device, non_blocking=True),
            self.is_frame.to(device, non_blocking=True),
            self.labels,
        )


def as_document(tokens: Sequence[int], codes: Codes) -> Stored:
    """An utterance as it is stored."""
    return np.concatenate([stored(tokens, learnt=False), stored(codes.reshape(-1), learnt=True)])


class Utterances:
    """The utterances of a dataset, by number; neighbours are about as long as each other."""

    def __init__(self, documents: Documents, marks: Marks, batch_size: int, seed: int) -> None:
        self._documents = documents
        self._marks = marks
        self._starts = np.concatenate([[0], documents.ends[:-1]]).astype(np.int64)[: len(documents.ends)]
        self._order = bucketed(documents.ends - self._starts, batch_size, seed).pieces
        self.block = batch_size

    def __len__(self) -> int:
        return len(self._order)

    def utterance(self, index: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The tokens of a transcript, and the codes of its frames without the end."""
        place = self._order[index]
        document = np.asarray(self._documents.stored[self._starts[place] : self._documents.ends[place]])
        spoken = document >= 0
        tokens, codes = tokens_of(document[~spoken]), document[spoken].reshape(-1, self._marks.codebooks)
        return tokens.astype(np.int64), codes.astype(np.int64)

    def batch(self, indices: Sequence[int]) -> UtteranceBatch:
        """The utterances of those numbers, padded at their ends to the longest of them."""
        marks = self._marks
        utterances = [self.utterance(index) for index in indices]
        width = 1 + max(len(tokens) + len(codes) for tokens, codes in utterances)
        all_tokens = np.zeros((len(indices), width), np.int64)
        all_codes = np.zeros((len(indices), width, marks.codebooks), np.int64)
        is_frame = np.zeros((len(indices), width), np.bool_)
        for row, (tokens, codes) in enumerate(utterances):
            begin, end = len(tokens), len(tokens) + len(codes)
            all_tokens[row, :begin] = tokens
            all_tokens[row, begin:end] = marks.frame_token
            all_tokens[row, end] = marks.end_token
            all_codes[row, begin:end] = codes
            all_codes[row, end] = marks.end_code
            is_frame[row, begin : end + 1] = True
        return UtteranceBatch(
            torch.from_numpy(all_tokens), torch.from_numpy(all_codes), torch.from_numpy(is_frame), int(is_frame.sum())
        )
