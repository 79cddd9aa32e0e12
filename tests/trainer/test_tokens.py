from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure_data.datasets import Passage
from perdure_trainer.data.tokens import IGNORED, TokenRow, Windows, tokenize

END = 0


def encode(texts: list[str]) -> list[list[int]]:
    return [[ord(character) for character in text] for text in texts]


def row(length: int, *ends: int) -> TokenRow:
    return TokenRow(np.arange(length, dtype=np.int32), ends)


def test_documents_follow_each_other_with_an_end_between() -> None:
    found = tokenize([Passage("ab", ends_document=True), Passage("c", ends_document=True)], encode, END)
    assert found.tokens.tolist() == [97, 98, END, 99, END]
    assert found.ends == (3, 5)


def test_passages_of_one_document_have_no_end_between() -> None:
    found = tokenize([Passage("ab", ends_document=False), Passage("c", ends_document=True)], encode, END)
    assert found.tokens.tolist() == [97, 98, 99, END]


def test_documents_of_white_space_are_left_out() -> None:
    passages = [Passage(text, ends_document=True) for text in ("a", " \n", "", "b")]
    assert tokenize(passages, encode, END).tokens.tolist() == [97, END, 98, END]


def test_no_passages_are_no_tokens() -> None:
    assert tokenize([], encode, END).tokens.tolist() == []


@pytest.mark.parametrize(
    ("whole", "fraction", "lengths"),
    [
        pytest.param(row(100, 30, 60, 88, 100), 0.1, (88, 12), id="the nearest document"),
        pytest.param(row(100, 95, 100), 0.5, (95, 5), id="the only border"),
        pytest.param(row(100, 100), 0.1, (90, 10), id="one document is cut"),
        pytest.param(row(3, 3), 0.01, (3, 0), id="too little to hold out"),
    ],
)
def test_holds_out_the_last_documents(whole: TokenRow, fraction: float, lengths: tuple[int, int]) -> None:
    kept, held_out = whole.split(fraction)
    assert (len(kept.tokens), len(held_out.tokens)) == lengths
    assert [*kept.tokens, *held_out.tokens] == list(range(len(whole.tokens)))


@given(st.integers(2, 60), st.integers(1, 20))
def test_every_token_but_the_first_is_predicted_once_from_the_one_before(length: int, window: int) -> None:
    windows = Windows(row(length), window)
    batch = windows.batch(range(len(windows)))
    real = batch.targets != IGNORED
    assert batch.targets[real].tolist() == list(range(1, length))
    assert batch.inputs[real].tolist() == list(range(length - 1))
    assert batch.labels == length - 1


def test_the_padding_of_a_short_window_is_no_target() -> None:
    batch = Windows(row(7), 4).batch([1, 0])
    assert batch.inputs.tolist() == [[4, 5, 0, 0], [0, 1, 2, 3]]
    assert batch.targets.tolist() == [[5, 6, IGNORED, IGNORED], [1, 2, 3, 4]]
    assert batch.labels == 6


def test_a_batch_is_no_wider_than_its_longest_window() -> None:
    assert Windows(row(4), 1000).batch([0]).inputs.shape == (1, 3)
