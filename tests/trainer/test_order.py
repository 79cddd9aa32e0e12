from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure_trainer.data.order import KeyedPermutation, Order


@given(st.integers(0, 2**31 - 1), st.integers(1, 50), st.integers(0, 3), st.integers(1, 60))
def test_every_epoch_has_every_sample_once(seed: int, count: int, epoch: int, block: int) -> None:
    assert sorted(Order(seed, count, block).indices(epoch * count, count)) == list(range(count))


@given(st.integers(0, 9), st.integers(1, 20), st.integers(0, 60), st.integers(1, 30), st.integers(1, 5))
def test_an_entry_depends_on_nothing_but_its_position(
    seed: int, count: int, position: int, length: int, block: int
) -> None:
    from_the_start = Order(seed, count, block).indices(0, position + length)
    assert Order(seed, count, block).indices(position, length) == from_the_start[position:]


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    rows = {tuple(Order(seed, 100).indices(epoch * 100, 100)) for seed in range(3) for epoch in range(3)}
    assert len(rows) == 9


def test_a_block_stays_together_and_the_last_shorter_one_ends_the_epoch() -> None:
    found = Order(1, 11, 3).indices(0, 11)
    assert sorted(found[:9:3]) == [0, 3, 6]
    assert all(found[i + 1] == found[i] + 1 == found[i + 2] - 1 for i in (0, 3, 6))
    assert found[9:] == [9, 10]


@pytest.mark.parametrize("what", ["seeds", "epochs"])
def test_all_orders_are_about_as_frequent(what: str) -> None:
    """Chi-squared with 23 degrees of freedom: more than 50 would happen once in a thousand times by chance."""
    numbers = np.arange(4)
    found = Counter(
        tuple(KeyedPermutation(4, *((n, 0) if what == "seeds" else (0, n))).at(numbers).tolist()) for n in range(2400)
    )
    assert len(found) == 24
    assert sum((times - 100) ** 2 / 100 for times in found.values()) < 50


def test_a_large_order_has_no_trend_and_no_memory() -> None:
    count = 100_000
    entries = KeyedPermutation(count, 1, 2).at(np.arange(count)) / count
    assert abs(np.corrcoef(entries, np.arange(count))[0, 1]) < 0.015
    assert abs(np.corrcoef(entries[1:], entries[:-1])[0, 1]) < 0.015
    assert abs(entries[:1000].mean() - 0.5) < 0.05


def test_the_midst_of_a_huge_order_costs_no_more_than_its_beginning() -> None:
    """One that walked there would still be at it when the test is ended for taking too long."""
    assert len(set(Order(3, 10**15).indices(7 * 10**14, 1000))) == 1000


def test_the_order_stays_what_it_was_in_earlier_releases() -> None:
    """A checkpoint of an older release must go on with the same samples."""
    assert Order(7, 10).indices(0, 12) == [4, 8, 0, 7, 5, 9, 3, 1, 2, 6, 5, 9]
    assert Order(7, 1000).indices(0, 6) == [716, 197, 846, 202, 242, 382]


@given(
    st.integers(1, 200),
    st.integers(1, 5),
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), min_size=1, max_size=6),
)
def test_ranks_that_come_and_go_see_every_sample_once(
    count: int, size: int, micro_batches: int, attempts: list[tuple[int, int]]
) -> None:
    """Attempts of so many ranks, each for so many steps: together they see the order, entry by entry, none twice."""
    order, position, seen = Order(3, count, size), 0, []
    for ranks, steps in attempts:
        for _ in range(steps):
            parts = [order.micro_batches(position, size, micro_batches, rank, ranks) for rank in range(ranks)]
            seen += [entry for batches in zip(*parts, strict=True) for batch in batches for entry in batch]
            position += size * micro_batches * ranks
    assert seen == order.indices(0, position)


def test_several_ranks_have_what_one_would_have_with_larger_batches() -> None:
    order = Order(3, 100)
    two = [order.micro_batches(40, 4, 3, rank, 2) for rank in range(2)]
    assert [left + right for left, right in zip(*two, strict=True)] == order.micro_batches(40, 8, 3, 0, 1)
