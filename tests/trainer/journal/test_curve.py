from __future__ import annotations

import io
import math
from collections.abc import Sequence

import pytest
from PIL import Image

from perdure_trainer.journal.curve import drawn, ticks
from perdure_trainer.losses import Point

RUN = [Point(step, 1 + 3 * math.exp(-step / 50) + 0.1 * math.sin(step)) for step in range(1, 301)]


def coloured(png: bytes, colour: tuple[int, int, int]) -> list[tuple[int, int]]:
    """Places of about this colour, from the left."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    wide, high = image.size
    pixels = [(x, y) for x in range(wide) for y in range(60, high)]
    return [at for at in pixels if all(abs(a - b) < 30 for a, b in zip(image.getpixel(at), colour, strict=True))]  # type: ignore[arg-type]


def test_a_falling_loss_falls_in_the_picture() -> None:
    line = coloured(drawn(RUN, Point(0, 4.2), Point(300, 1.0)), (0x1F, 0x5F, 0xBF))
    assert len(line) > 300
    assert line[0][1] < line[-1][1] - 200


@pytest.mark.parametrize(
    "points",
    [
        pytest.param([], id="nothing was left to train"),
        pytest.param([Point(1, 2.0)], id="one step"),
        pytest.param([Point(1, 2.0), Point(2, 2.0)], id="a loss that stays"),
        pytest.param([Point(1, 1e-12), Point(10**9, 1e12)], id="any size"),
        pytest.param(RUN * 40, id="more points than pixels"),
    ],
)
def test_every_run_can_be_drawn(points: Sequence[Point]) -> None:
    png = drawn(points, Point(0, 2.0), Point(1, 2.0))
    assert Image.open(io.BytesIO(png)).size == (960, 540)
    assert len(png) < 100_000


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 30, [0, 5, 10, 15, 20, 25, 30]),
        (1.02, 3.9, [1, 1.5, 2, 2.5, 3, 3.5, 4]),
        (2, 2, [1.4, 1.6, 1.8, 2, 2.2, 2.4, 2.6]),
        (0, 0.003, [0, 0.0005, 0.001, 0.0015, 0.002, 0.0025, 0.003]),
    ],
)
def test_ticks_are_round_and_enclose_the_range(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == expected
