from __future__ import annotations

import pytest

from perdure_inference.batches import batches


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([], []),
        ([3], [[0]]),
        ([1, 9, 5], [[1, 2], [0]]),
        ([4, 4, 4, 4, 4], [[0, 1, 2], [3, 4]]),
        ([100, 1], [[0], [1]]),
    ],
    ids=["none", "one", "longest first, padded to it", "as many rows as allowed", "one row may have more"],
)
def test_rows_of_like_length_are_computed_together(lengths: list[int], expected: list[list[int]]) -> None:
    assert batches(lengths, rows=3, tokens=18) == expected


def test_every_row_is_in_one_batch() -> None:
    lengths = [number * 37 % 101 + 1 for number in range(500)]

    found = batches(lengths, rows=16, tokens=512)

    assert sorted(row for batch in found for row in batch) == list(range(500))
    assert all(len(batch) <= 16 and len(batch) * lengths[batch[0]] <= 512 for batch in found)
