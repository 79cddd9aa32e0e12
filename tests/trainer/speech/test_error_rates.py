from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure_trainer.speech.error_rates import ErrorRates, edits, error_rates, plain

WORDS = st.lists(st.sampled_from("abcd"), max_size=8)


@pytest.mark.parametrize(
    ("said", "heard", "rates"),
    [
        pytest.param("one moment", "one moment", ErrorRates(0.0, 0.0), id="the same"),
        pytest.param("One moment, please!", "one moment please", ErrorRates(0.0, 0.0), id="case and punctuation"),
        pytest.param("one moment please hold", "one comment please hold", ErrorRates(1 / 4, 2 / 22), id="substituted"),
        pytest.param("one moment", "one", ErrorRates(1 / 2, 7 / 10), id="deleted"),
        pytest.param("one", "one two three", ErrorRates(2.0, 10 / 3), id="inserted: more than everything"),
        pytest.param("one", "", ErrorRates(1.0, 1.0), id="nothing heard"),
    ],
)
def test_what_was_heard_is_compared_with_what_was_said(said: str, heard: str, rates: ErrorRates) -> None:
    found = error_rates([(said, heard)])
    assert (found.words, found.characters) == pytest.approx((rates.words, rates.characters))


def test_long_sentences_weigh_more_than_short_ones() -> None:
    assert error_rates([("a", "b"), ("a b c d e f g", "a b c d e f g")]).words == pytest.approx(1 / 8)


@pytest.mark.parametrize(
    ("text", "words"),
    [("It’s 5 o'clock — 'now'.", "it's 5 o'clock now"), ("Ｆｕｌｌ_width\n\tß", "full width ss"), ("…", "")],  # noqa: RUF001
)
def test_only_words_are_compared(text: str, words: str) -> None:
    assert plain(text) == words


@given(WORDS, WORDS, WORDS)
def test_edits_are_a_distance(one: list[str], two: list[str], three: list[str]) -> None:
    assert (edits(one, two) == 0) == (one == two)
    assert edits(one, two) == edits(two, one)
    assert edits(one, three) <= edits(one, two) + edits(two, three)
    assert abs(len(one) - len(two)) <= edits(one, two) <= max(len(one), len(two))
