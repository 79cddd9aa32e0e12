from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from perdure_trainer.data.order import Order


@given(st.integers(0, 2**31 - 1), st.integers(1, 50), st.integers(0, 3))
def test_every_epoch_has_every_sample_once(seed: int, count: int, epoch: int) -> None:
    assert sorted(Order(seed, count).indices(epoch * count, count)) == list(range(count))


@given(st.integers(0, 9), st.integers(1, 20), st.integers(0, 60), st.integers(1, 30))
def test_an_entry_depends_on_nothing_but_its_position(seed: int, count: int, position: int, length: int) -> None:
    from_the_start = Order(seed, count).indices(0, position + length)
    assert Order(seed, count).indices(position, length) == from_the_start[position:]


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    rows = {tuple(Order(seed, 100).indices(epoch * 100, 100)) for seed in range(3) for epoch in range(3)}
    assert len(rows) == 9


def test_the_order_stays_what_it_was_in_earlier_releases() -> None:
    """A checkpoint of an older release must go on with the same samples."""
    assert Order(7, 10).indices(0, 12) == [6, 3, 9, 1, 2, 0, 5, 7, 8, 4, 1, 9]
