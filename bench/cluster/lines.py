"""Numbers over time, as a picture of panels that share their seconds."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageDraw

from bench.cluster.plot import COLOURS, FAINT, FINER, INK, WIDTH

_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 24, 44, 28
_HEIGHT: Final = 150
"""Of what is drawn into, in each panel."""
_TICKS: Final = 6
_LEGEND: Final = 150


@dataclass(frozen=True)
class Line:
    """What one number was, from each moment to the next."""

    name: str
    points: Sequence[tuple[float, float]]
    """Seconds and value, in order; each value holds until the next."""


@dataclass(frozen=True)
class Panel:
    """Lines of one scale."""

    title: str
    lines: Sequence[Line]
    marks: Sequence[float] = ()
    """Moments that a thin line stands at."""


def step(most: float, ticks: int = _TICKS) -> float:
    """Between the marks of an axis from 0: 1, 2 or 5 times a power of ten, so that there are at most so many."""
    if most <= 0:
        return 1.0
    power: float = 10.0 ** math.floor(math.log10(most / ticks))
    return next(power * times for times in (1, 2, 5, 10) if most / (power * times) <= ticks)


def drawn(panels: Sequence[Panel]) -> bytes:
    """A PNG, one panel below the other; lines of the same name have the same colour in each.

    Raises:
        ValueError: there is nothing to draw.
    """
    points = [point for panel in panels for line in panel.lines for point in line.points]
    if not points:
        raise ValueError("nothing to draw: no points")
    first, last = min(point[0] for point in points), max(point[0] for point in points)
    whole = _TOP + _HEIGHT + _BOTTOM
    image = Image.new("RGB", (WIDTH * FINER, len(panels) * whole * FINER), "white")
    canvas = _Canvas(ImageDraw.Draw(image), first, max(last, first + 1))
    names = list(dict.fromkeys(line.name for panel in panels for line in panel.lines))
    colours = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}
    for place, panel in enumerate(panels):
        _draw(canvas, panel, place * whole + _TOP, colours)
    buffer = io.BytesIO()
    image.resize((WIDTH, len(panels) * whole), Image.Resampling.LANCZOS).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


@dataclass(frozen=True)
class _Canvas:
    draw: ImageDraw.ImageDraw
    first: float
    last: float

    def x(self, seconds: float) -> float:
        return _LEFT + (seconds - self.first) / (self.last - self.first) * (WIDTH - _LEFT - _RIGHT)

    def text(self, x: float, y: float, what: str, anchor: str) -> None:
        self.draw.text((x * FINER, y * FINER), what, fill=INK, anchor=anchor, font_size=13 * FINER)

    def line(self, points: Sequence[tuple[float, float]], colour: str, width: int) -> None:
        self.draw.line([(x * FINER, y * FINER) for x, y in points], fill=colour, width=width * FINER, joint="curve")


def _draw(canvas: _Canvas, panel: Panel, top: float, colours: dict[str, str]) -> None:
    bottom = top + _HEIGHT
    most = max((value for line in panel.lines for _, value in line.points), default=0.0)
    apart = step(most, 4)
    ceiling = max(apart, math.ceil(most / apart) * apart)

    def y(value: float) -> float:
        return bottom - value / ceiling * _HEIGHT

    canvas.text(_LEFT, top - 30, panel.title, "lm")
    for place, line in enumerate(panel.lines):
        left = _LEFT + place * _LEGEND
        canvas.line([(left, top - 12), (left + 16, top - 12)], colours[line.name], 3)
        canvas.text(left + 22, top - 12, line.name, "lm")
    for number in range(round(ceiling / apart) + 1):
        value = number * apart
        canvas.line([(_LEFT, y(value)), (WIDTH - _RIGHT, y(value))], FAINT, 1)
        canvas.text(_LEFT - 8, y(value), f"{value:g}", "rm")
    apart = step(canvas.last - canvas.first, 12)
    for number in range(math.ceil(canvas.first / apart), math.floor(canvas.last / apart) + 1):
        canvas.text(canvas.x(number * apart), bottom + 12, f"{number * apart:g} s", "mm")
    for moment in panel.marks:
        canvas.line([(canvas.x(moment), top), (canvas.x(moment), bottom)], INK, 1)
    for place, line in enumerate(panel.lines):
        corners: list[tuple[float, float]] = []
        for seconds, value in line.points:
            if corners:
                corners.append((canvas.x(seconds), corners[-1][1]))
            corners.append((canvas.x(seconds), y(value)))
        if len(corners) > 1:
            # The ones below are wider, so that of equal values each is seen.
            canvas.line(corners, colours[line.name], 2 * (len(panel.lines) - place))
