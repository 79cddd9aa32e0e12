"""Numbers over time as a picture."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from bench.cluster.lines import Line, Panel, drawn, step

RED_AT_FIVE = Line("up", [(0.0, 0.0), (5.0, 10.0), (10.0, 10.0)])


@pytest.mark.parametrize(("most", "apart"), [(0, 1), (3, 0.5), (6, 1), (7, 2), (200, 50), (0.4, 0.1), (1300, 500)])
def test_marks_of_an_axis_are_few_and_round(most: float, apart: float) -> None:
    assert step(most) == pytest.approx(apart)


def coloured(picture: bytes, column: float) -> set[int]:
    """Heights, from the top, at which a column of a picture has a colour."""
    image = Image.open(io.BytesIO(picture)).convert("HSV")
    x = round(column * image.width)
    return {y for y in range(40, image.height) if image.getpixel((x, y))[1] > 120}  # type: ignore[index]


def test_a_value_holds_until_the_next() -> None:
    picture = drawn([Panel("p", [RED_AT_FIVE])])

    low, high = coloured(picture, 0.3), coloured(picture, 0.8)
    assert min(low) > max(high)


def test_panels_share_their_seconds() -> None:
    late = Panel("late", [Line("late", [(0.0, 1.0), (100.0, 1.0)])])
    alone = Image.open(io.BytesIO(drawn([Panel("p", [RED_AT_FIVE])])))
    both = Image.open(io.BytesIO(drawn([Panel("p", [RED_AT_FIVE]), late])))

    assert both.size == (alone.width, 2 * alone.height)
    assert not coloured(drawn([Panel("p", [RED_AT_FIVE]), late]), 0.5) & set(range(alone.height))


def test_nothing_is_not_drawn() -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        drawn([Panel("p", [])])
