"""The loss of each step, as a picture."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from perdure_trainer.losses import Point

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

_SIZE: Final = (960, 540)
_FINER: Final = 2
"""Drawn so many times larger, then made smaller: that is what makes lines smooth."""
_LEFT, _TOP, _RIGHT, _BOTTOM = 84, 48, 24, 56
_INK, _GREY, _FAINT = "#222222", "#888888", "#e4e4e4"
_SINGLE, _MEAN, _BASE, _ADAPTED = "#b9cdec", "#1f5fbf", "#888888", "#c8442b"
_MEMORY: Final = 0.9
"""Weight of the past in the moving average."""
_TICKS: Final = 6


def drawn(points: Sequence[Point], base: Point, adapted: Point) -> bytes:
    """A PNG of the training loss, its moving average, and the held-out loss before and after."""
    # Imported here: it takes a while, and is needed once.
    from PIL import Image, ImageDraw  # noqa: PLC0415

    image = Image.new("RGB", (_SIZE[0] * _FINER, _SIZE[1] * _FINER), "white")
    _Plot(ImageDraw.Draw(image), [*points, base, adapted]).draw(points, base, adapted)
    buffer = io.BytesIO()
    image.resize(_SIZE, Image.Resampling.LANCZOS).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


class _Plot:
    """Axes, and what is drawn between them."""

    def __init__(self, draw: ImageDraw, shown: Sequence[Point]) -> None:
        self._draw = draw
        self._steps = ticks(min(point.step for point in shown), max(point.step for point in shown))
        self._losses = ticks(min(point.loss for point in shown), max(point.loss for point in shown))

    def draw(self, points: Sequence[Point], base: Point, adapted: Point) -> None:
        self._axes()
        self._line(points, _SINGLE, 1)
        self._line(_averaged(points), _MEAN, 3)
        for place, colour in ((base, _BASE), (adapted, _ADAPTED)):
            x, y = self._at(place)
            self._draw.ellipse((x - 12, y - 12, x + 12, y + 12), fill=colour)
        self._legend([("loss of a step", _SINGLE), ("moving average", _MEAN)], 0)
        self._legend([("held-out, base model", _BASE), (f"held-out, adapter: {adapted.loss:.4g}", _ADAPTED)], 1)

    def _axes(self) -> None:
        left, top, right, bottom = _LEFT * _FINER, _TOP * _FINER, self._right, self._bottom
        for loss in self._losses:
            _, y = self._at(Point(self._steps[0], loss))
            self._draw.line((left, y, right, y), fill=_FAINT, width=2)
            self._text((left - 16, y), f"{loss:g}", "rm")
        for step in self._steps:
            x, _ = self._at(Point(step, self._losses[0]))
            self._draw.line((x, bottom, x, bottom + 10), fill=_GREY, width=2)
            self._text((x, bottom + 18), f"{step:g}", "ma")
        self._draw.line((left, top, left, bottom, right, bottom), fill=_GREY, width=2)
        self._text(((left + right) / 2, bottom + 60), "step", "ma")

    def _line(self, points: Sequence[Point], colour: str, width: int) -> None:
        if len(points) > 1:
            self._draw.line([self._at(point) for point in points], fill=colour, width=width * _FINER, joint="curve")

    def _legend(self, entries: Sequence[tuple[str, str]], column: int) -> None:
        x = (_LEFT + 24 + column * 400) * _FINER
        for row, (text, colour) in enumerate(entries):
            y = (14 + row * 18) * _FINER
            self._draw.rectangle((x, y - 5, x + 32, y + 5), fill=colour)
            self._text((x + 46, y), text, "lm")

    def _text(self, place: tuple[float, float], text: str, anchor: str) -> None:
        self._draw.text(place, text, fill=_INK, anchor=anchor, font_size=13 * _FINER)

    def _at(self, point: Point) -> tuple[float, float]:
        left, bottom = _LEFT * _FINER, self._bottom
        across = (point.step - self._steps[0]) / (self._steps[-1] - self._steps[0])
        up = (point.loss - self._losses[0]) / (self._losses[-1] - self._losses[0])
        return left + across * (self._right - left), bottom - up * (bottom - _TOP * _FINER)

    @property
    def _right(self) -> float:
        return (_SIZE[0] - _RIGHT) * _FINER

    @property
    def _bottom(self) -> float:
        return (_SIZE[1] - _BOTTOM) * _FINER


def ticks(low: float, high: float) -> list[float]:
    """Round numbers at even distances, of which the first and the last enclose a range."""
    if high <= low:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    distance = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first, last = math.floor(low / distance), math.ceil(high / distance)
    return [round(number * distance, 12) for number in range(first, last + 1)]


def _averaged(points: Sequence[Point]) -> list[Point]:
    averaged: list[Point] = []
    for point in points:
        past = averaged[-1].loss if averaged else point.loss
        averaged.append(Point(point.step, _MEMORY * past + (1 - _MEMORY) * point.loss))
    return averaged
