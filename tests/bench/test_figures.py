"""Numbers as people read them."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from bench.cluster import figures, goals, plot
from bench.cluster.goals import Goal


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([3, 1, 2], 0.5, 2),
        ([1, 2, 3, 4], 0.5, 2),
        ([1, 2], 0, 1),
        ([1, 2], 1, 2),
        (range(1, 101), 0.95, 95),
        ([7], 0.95, 7),
    ],
)
def test_a_quantile_is_a_value_that_was_seen(values: list[float], share: float, expected: float) -> None:
    assert figures.quantile(values, share) == expected


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1], 1.5)])
def test_a_quantile_of_nothing_is_refused(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="no quantile"):
        figures.quantile(values, share)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.12345, "0.123"),
        (12345.6, "12,346"),
        (45.67, "45.7"),
        (0, "0"),
        (None, "-"),
        (float("nan"), "-"),
        (-2, "-2.00"),
    ],
)
def test_numbers_have_three_digits_that_count(value: float | None, expected: str) -> None:
    assert figures.rounded(value) == expected


def test_a_spread_says_from_where_to_where() -> None:
    assert figures.spread([1.0, 3.0]) == "2.00 (1.00 to 3.00)"
    assert figures.spread([2.0]) == "2.00"
    assert figures.spread([]) == "-"


def test_a_goal_says_whether_the_mean_reaches_it() -> None:
    at_most, at_least = Goal("a", 2.0), Goal("b", 2.0, at_least=True, unit="ms")

    assert at_most.row([1.0, 3.0])[1:4] == ["2.00 (1.00 to 3.00)", "≤ 2.00", "yes"]
    assert at_most.row([2.1])[3] == "no"
    assert at_least.row([2.1])[1:4] == ["2.10 ms", "≥ 2.00 ms", "yes"]
    assert at_least.row([1.9])[3] == "no"


def test_what_was_not_measured_reaches_no_goal() -> None:
    assert Goal("a", 2.0).row([])[3] == "not measured"
    assert "| a | - | ≤ 2.00 | not measured |  |" in goals.table([Goal("a", 2.0).row([])])


def test_a_longer_bar_is_drawn_longer() -> None:
    png = plot.drawn("t", [plot.Bar("a", {"x": 1.0, "y": 1.0}), plot.Bar("b", {"x": 2.0, "y": 2.0})])
    image = Image.open(io.BytesIO(png)).convert("RGB")
    rows = [[image.getpixel((x, plot._TOP + place * 34 + 11)) for x in range(image.width)] for place in range(2)]
    short, long = (sum(pixel == (0x1F, 0x5F, 0xBF) for pixel in row) for row in rows)

    assert 0 < short < long
    assert abs(long - 2 * short) < 12


def test_nothing_is_no_picture() -> None:
    with pytest.raises(ValueError, match="no bars"):
        plot.drawn("t", [])
