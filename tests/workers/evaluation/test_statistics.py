"""Means and their intervals, against cases whose answers are known."""

from __future__ import annotations

import math
from itertools import product
from statistics import fmean

import numpy as np
import pytest

from perdure_workers.evaluation import statistics
from perdure_workers.evaluation.statistics import Bootstrap, Mean, mean, paired_difference


def test_scores_that_are_alike_leave_no_doubt() -> None:
    assert mean([0.5] * 20, Bootstrap()) == Mean(0.5, 0.5, 0.5)
    assert paired_difference([1.0, 0.0, 1.0], [1.0, 0.0, 1.0], Bootstrap()) == Mean(0.0, 0.0, 0.0)


def test_what_is_hard_for_both_does_not_blur_the_difference() -> None:
    theirs = [index / 100 for index in range(100)]
    ours = [score + 0.1 for score in theirs]

    found = paired_difference(ours, theirs, Bootstrap())

    assert found.value == pytest.approx(0.1)
    assert found.high - found.low < 1e-9


def test_few_scores_have_the_interval_of_all_resamples_there_are() -> None:
    """Of three values there are 27 resamples, all as likely: their quantiles are the truth."""
    values = [0.0, 0.3, 1.0]
    every = sorted(fmean(drawn) for drawn in product(values, repeat=3))

    found = mean(values, Bootstrap(resamples=200_000, confidence=0.8))

    assert (found.low, found.high) == pytest.approx(np.quantile(every, [0.1, 0.9]), abs=1e-12)


def test_of_many_scores_the_interval_is_that_of_the_normal_distribution() -> None:
    values = [1.0] * 700 + [0.0] * 300
    half = 1.96 * math.sqrt(0.7 * 0.3 / 1000)

    found = mean(values, Bootstrap())

    assert (found.low, found.high) == pytest.approx((0.7 - half, 0.7 + half), abs=0.002)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    chance = np.random.Generator(np.random.PCG64(7))
    held = 0
    for seed in range(300):
        theirs = chance.normal(0.5, 0.2, 60)
        ours = theirs + chance.normal(0.03, 0.1, 60)
        found = paired_difference(ours.tolist(), theirs.tolist(), Bootstrap(resamples=1000, confidence=0.9, seed=seed))
        held += found.low <= 0.03 <= found.high

    # Four standard deviations around nine in ten of 300.
    assert 250 <= held <= 290


def test_the_same_seed_gives_the_same_interval_and_another_one_another() -> None:
    values = [0.1, 0.9, 0.4, 0.7, 0.2]
    found = mean(values, Bootstrap(seed=3, resamples=500))

    assert found == mean(values, Bootstrap(seed=3, resamples=500))
    assert found != mean(values, Bootstrap(seed=4, resamples=500))


def test_however_much_is_drawn_at_once_the_interval_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [0.1, 0.9, 0.4, 0.7, 0.2]
    at_once = mean(values, Bootstrap())
    monkeypatch.setattr(statistics, "_DRAWN_AT_ONCE", 35)

    assert mean(values, Bootstrap()) == at_once


def test_no_scores_and_unequal_numbers_of_them_are_refused() -> None:
    with pytest.raises(ValueError, match="found no values"):
        mean([], Bootstrap())
    with pytest.raises(ValueError, match="found 2 scores and 1 to compare with"):
        paired_difference([1, 1], [1], Bootstrap())
