from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure_trainer.data.documents import Documents, stored
from perdure_trainer.data.rows import Pieces, Rows, TokenBatch, packed, rows_of

LENGTHS = st.lists(st.integers(1, 70), min_size=1, max_size=60)


def numbered(lengths: list[int]) -> Documents:
    """Documents of text whose tokens are 0, 1, 2, … throughout."""
    return Documents(np.arange(sum(lengths), dtype=np.int32), np.cumsum(lengths, dtype=np.int64))


def learnt_from(batch: TokenBatch) -> list[tuple[int, int]]:
    """Each token that something is learnt behind, and what that is."""
    return list(zip(batch.tokens.flatten()[batch.places].tolist(), batch.targets.tolist(), strict=True))


def neighbours(lengths: list[int]) -> list[tuple[int, int]]:
    starts = [0, *np.cumsum(lengths).tolist()]
    return [pair for start, end in pairwise(starts) for pair in pairwise(range(start, end))]


def everything(rows: Rows) -> TokenBatch:
    return rows.batch(range(len(rows)))


@pytest.mark.parametrize("packing", [True, False])
@given(lengths=LENGTHS, row_length=st.integers(8, 40), seed=st.integers(0, 99))
def test_every_token_but_the_first_of_a_document_is_learnt_once_from_the_one_before(
    *, packing: bool, lengths: list[int], row_length: int, seed: int
) -> None:
    if max(lengths) < 2:
        return
    rows = rows_of(numbered(lengths), row_length, 3, seed, packing=packing)
    assert sorted(learnt_from(everything(rows))) == neighbours(lengths)


@given(LENGTHS, st.integers(8, 40), st.integers(0, 99))
def test_no_packed_row_is_longer_than_it_may_be_and_rows_are_well_filled(
    lengths: list[int], row_length: int, seed: int
) -> None:
    pieces = Pieces.of(numbered(lengths), row_length)
    plan = packed(pieces.lengths, row_length, seed)
    filled = [int(pieces.lengths[plan.pieces[start:end]].sum()) for start, end in pairwise([0, *plan.ends.tolist()])]
    assert max(filled, default=0) <= row_length
    assert len([length for length in filled if length <= row_length // 2]) <= 1


def test_thousands_of_documents_leave_next_to_no_padding() -> None:
    draw = np.random.default_rng(1)
    lengths = draw.lognormal(4, 1, 5000).astype(int) + 2
    rows = rows_of(numbered(lengths.tolist()), 512, 8, 0, packing=True)
    batch = everything(rows)
    assert batch.labels / batch.tokens.numel() > 0.995


def test_positions_begin_anew_with_each_document_and_tokens_follow_them() -> None:
    rows = rows_of(numbered([4, 3, 9, 6]), 10, 1, 5, packing=True)
    for row in range(len(rows)):
        batch = rows.batch([row])
        tokens, positions = batch.tokens[0], batch.positions[0]
        starts = [0, 4, 7, 16]
        assert [token in starts for token in tokens.tolist()] == (positions == 0).tolist()
        assert all(
            position == token - max(s for s in starts if s <= token)
            for token, position in zip(tokens, positions, strict=True)
        )


def test_a_long_document_is_cut_into_pieces_that_lose_nothing() -> None:
    pieces = Pieces.of(numbered([21]), 8)
    assert (pieces.starts.tolist(), pieces.lengths.tolist()) == ([0, 8, 16], [8, 8, 4])


@pytest.mark.parametrize("lengths", [[1], [1, 1], []])
def test_a_document_of_one_token_has_nothing_to_learn(lengths: list[int]) -> None:
    assert len(rows_of(numbered(lengths), 8, 1, 0, packing=True)) == 0
    assert len(rows_of(numbered(lengths), 8, 1, 0, packing=False)) == 0


def test_only_what_is_learnt_is_a_target() -> None:
    sample = np.concatenate([stored([5, 6], learnt=False), stored([7], learnt=True), stored([8], learnt=False)])
    rows = rows_of(
        Documents(np.concatenate([sample, stored([9], learnt=True)]), np.asarray([5])), 8, 1, 0, packing=True
    )
    batch = everything(rows)
    assert batch.tokens.tolist() == [[5, 6, 7, 8]]
    assert learnt_from(batch) == [(6, 7), (8, 9)]


def test_a_batch_is_no_wider_than_its_longest_row() -> None:
    rows = rows_of(numbered([4]), 1000, 1, 0, packing=True)
    assert everything(rows).tokens.shape == (1, 3)


def test_without_packing_a_batch_holds_documents_of_about_one_length() -> None:
    draw = np.random.default_rng(2)
    lengths = draw.integers(2, 500, 640).tolist()
    rows = rows_of(numbered(lengths), 512, 8, 0, packing=False)
    assert (len(rows), rows.block) == (640, 8)
    padded = sum(rows.batch(range(start, start + 8)).tokens.numel() for start in range(0, 640, 8))
    assert sum(lengths) - 640 > 0.95 * padded


def test_the_seed_decides_who_shares_a_row() -> None:
    lengths = np.random.default_rng(3).integers(2, 50, 200).tolist()
    one, same, other = (rows_of(numbered(lengths), 64, 1, seed, packing=True).batch([0, 1]) for seed in (1, 1, 2))
    assert one.tokens.tolist() == same.tokens.tolist() != other.tokens.tolist()
