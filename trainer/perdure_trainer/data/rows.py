"""Documents as rows of one length, which are what is trained on.

A document longer than a row is cut into consecutive pieces. Packed, a row holds as many pieces as fit; positions begin
anew with each, and no token sees another piece. Else each piece is a row of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from perdure_trainer.data.documents import Documents, Offsets, Stored, tokens_of
from perdure_trainer.data.order import KeyedPermutation

PACKED_AT_A_TIME: Final = 2**14
"""Pieces that the fullest rows are looked for among: more of them fill rows no better."""
SORTED_BATCHES: Final = 64
"""Without packing: batches' worth of pieces that are sorted by length before they are cut into batches."""
_SALT: Final = 0x726F7773


@dataclass(frozen=True)
class TokenBatch:
    """Rows of tokens, and what is to be learnt from them."""

    tokens: Tensor
    """int64, rows x width."""
    positions: Tensor
    """int64, rows x width: from 0 in each document."""
    places: Tensor
    """int64, labels: the tokens behind which something is learnt, counted over all rows."""
    targets: Tensor
    """int64, labels: what comes there."""

    @property
    def labels(self) -> int:
        """How many tokens are learnt."""
        return len(self.targets)

    def to(self, device: torch.device) -> TokenBatch:
        """The same on a device."""
        return TokenBatch(
            *(part.to(device, non_blocking=True) for part in (self.tokens, self.positions, self.places, self.targets))
        )


@dataclass(frozen=True)
class Pieces:
    """Parts of documents, none longer than a row: `lengths` tokens that something comes after."""

    starts: Offsets
    lengths: Offsets

    @classmethod
    def of(cls, documents: Documents, row_length: int) -> Pieces:
        """The pieces of documents, in which every token but the first of each document comes after another once."""
        begins = np.concatenate([[0], documents.ends[:-1]]) if len(documents.ends) else np.empty(0, np.int64)
        predictions = np.maximum(documents.ends - begins - 1, 0)
        counts = -(-predictions // row_length)
        numbers = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
        offsets = numbers * row_length
        return cls(
            starts=np.repeat(begins, counts) + offsets,
            lengths=np.minimum(np.repeat(predictions, counts) - offsets, row_length),
        )


@dataclass(frozen=True)
class Plan:
    """Which pieces make up which row."""

    pieces: Offsets
    """Numbers of pieces, row by row."""
    ends: Offsets
    """Where each row ends among them."""
    block: int = 1
    """Rows that belong side by side."""


def packed(lengths: Offsets, row_length: int, seed: int) -> Plan:
    """Full rows: drawn piece by piece over the whole dataset, each window of them by best fit, longest first."""
    shuffled = _shuffled(len(lengths), seed)
    rows: list[list[int]] = []
    for start in range(0, len(shuffled), PACKED_AT_A_TIME):
        window = shuffled[start : start + PACKED_AT_A_TIME]
        longest_first = window[np.argsort(-lengths[window], kind="stable")]
        rows += _best_fit(longest_first.tolist(), lengths[longest_first].tolist(), row_length)
    counts = np.fromiter((len(row) for row in rows), np.int64, len(rows))
    flat = np.fromiter((piece for row in rows for piece in row), np.int64, len(lengths))
    return Plan(flat, counts.cumsum())


def bucketed(lengths: Offsets, batch_size: int, seed: int) -> Plan:
    """A row for each piece; those of a batch are about as long as each other, so that little is padded."""
    shuffled = _shuffled(len(lengths), seed)
    window = SORTED_BATCHES * batch_size
    parts = [shuffled[start : start + window] for start in range(0, len(shuffled), window)]
    pieces = np.concatenate([part[np.argsort(lengths[part], kind="stable")] for part in parts]) if parts else shuffled
    return Plan(pieces, np.arange(1, len(pieces) + 1), batch_size)


def _shuffled(count: int, seed: int) -> Offsets:
    return KeyedPermutation(count, seed, _SALT).at(np.arange(count)) if count else np.empty(0, np.int64)


def _best_fit(pieces: list[int], lengths: list[int], row_length: int) -> list[list[int]]:
    """Each piece into the fullest row that has room for it, else into a new one."""
    rows: list[list[int]] = []
    with_room: list[list[list[int]]] = [[] for _ in range(row_length + 1)]
    rooms = 0  # bit n: there are rows with room for exactly n more
    for piece, length in zip(pieces, lengths, strict=True):
        enough = rooms >> length
        if enough:
            room = length + (enough & -enough).bit_length() - 1
            row = with_room[room].pop()
            if not with_room[room]:
                rooms &= ~(1 << room)
        else:
            room, row = row_length, []
            rows.append(row)
        row.append(piece)
        if room > length:
            with_room[room - length].append(row)
            rooms |= 1 << (room - length)
    return rows


class Rows:
    """The rows of a dataset, by number."""

    def __init__(self, stored: Stored, pieces: Pieces, plan: Plan) -> None:
        self._stored = stored
        self._pieces = pieces
        self._plan = plan
        self.block = plan.block

    def __len__(self) -> int:
        return len(self._plan.ends)

    def batch(self, indices: Sequence[int]) -> TokenBatch:
        """The rows of those numbers, padded at their ends to the longest of them; padding is nobody's target.

        Positions run on into the padding, where nothing looks at it: so a row of one document looks like one.
        """
        rows = [self._pieces_of(index) for index in indices]
        width = max(int(self._pieces.lengths[row].sum()) for row in rows)
        tokens = np.zeros((len(rows), width), np.int64)
        positions = np.zeros((len(rows), width), np.int64)
        places: list[npt.NDArray[np.int64]] = []
        targets: list[Stored] = []
        for number, row in enumerate(rows):
            at = 0
            for start, length in zip(
                self._pieces.starts[row].tolist(), self._pieces.lengths[row].tolist(), strict=True
            ):
                piece = np.asarray(self._stored[start : start + length + 1])
                learnt = np.flatnonzero(piece[1:] >= 0)
                tokens[number, at : at + length] = tokens_of(piece[:-1])
                positions[number, at:] = np.arange(width - at)
                places.append(number * width + at + learnt)
                targets.append(piece[1:][learnt])
                at += length
        return TokenBatch(
            torch.from_numpy(tokens),
            torch.from_numpy(positions),
            torch.from_numpy(np.concatenate(places)),
            torch.from_numpy(np.concatenate(targets).astype(np.int64)),
        )

    def _pieces_of(self, row: int) -> Offsets:
        start = 0 if row == 0 else int(self._plan.ends[row - 1])
        return self._plan.pieces[start : int(self._plan.ends[row])]


def rows_of(documents: Documents, row_length: int, batch_size: int, seed: int, *, packing: bool) -> Rows:
    """The rows of documents; the same documents and numbers give the same rows, on every machine."""
    pieces = Pieces.of(documents, row_length)
    plan = packed(pieces.lengths, row_length, seed) if packing else bucketed(pieces.lengths, batch_size, seed)
    return Rows(documents.stored, pieces, plan)
