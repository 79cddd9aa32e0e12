"""Bars in parts, as a picture."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageDraw

COLOURS: Final = (
    "#1f5fbf", "#c8442b", "#3a9d5d", "#e0a030", "#7d55a5",
    "#3fa7b8", "#b9597a", "#8a8a3a", "#888888", "#444444",
)  # fmt: skip
WIDTH: Final = 960
_LEFT, _RIGHT, _BAR, _GAP, _TOP = 250, 110, 22, 12, 76
INK: Final = "#222222"
FAINT: Final = "#e4e4e4"
FINER: Final = 2
"""Drawn so many times larger, then made smaller: that is what makes letters smooth."""
_LEGEND_COLUMNS: Final = 5


@dataclass(frozen=True)
class Bar:
    """One line of the picture."""

    label: str
    parts: Mapping[str, float]
    """Lengths, from the left."""
    note: str = ""
    """Written after it; nothing: its whole length."""


def drawn(title: str, bars: Sequence[Bar]) -> bytes:
    """A PNG. Parts of the same name have the same colour in every bar.

    Raises:
        ValueError: there are no bars.
    """
    if not bars:
        raise ValueError("nothing to draw: no bars")
    names = list(dict.fromkeys(name for bar in bars for name in bar.parts))
    longest = max(sum(bar.parts.values()) for bar in bars) or 1.0
    height = _TOP + len(bars) * (_BAR + _GAP) + 16
    image = Image.new("RGB", (WIDTH * FINER, height * FINER), "white")
    draw = ImageDraw.Draw(image)

    def text(x: float, y: float, what: str, anchor: str) -> None:
        draw.text((x * FINER, y * FINER), what, fill=INK, anchor=anchor, font_size=13 * FINER)

    def box(left: float, top: float, right: float, bottom: float, colour: str) -> None:
        if right > left:
            draw.rectangle((left * FINER, top * FINER, right * FINER, bottom * FINER), fill=colour)

    colours = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}
    text(16, 16, title, "lm")
    for place, name in enumerate(names):
        row, column = divmod(place, _LEGEND_COLUMNS)
        left, y = 16 + column * 188, 38 + row * 18
        box(left, y - 5, left + 12, y + 5, colours[name])
        text(left + 18, y, name, "lm")
    for place, bar in enumerate(bars):
        top = _TOP + place * (_BAR + _GAP)
        text(_LEFT - 12, top + _BAR / 2, bar.label, "rm")
        box(_LEFT, top + _BAR, WIDTH - _RIGHT, top + _BAR + 1, FAINT)
        x = float(_LEFT)
        for name, length in bar.parts.items():
            wide = length / longest * (WIDTH - _LEFT - _RIGHT)
            box(x, top, x + wide, top + _BAR, colours[name])
            x += wide
        text(x + 8, top + _BAR / 2, bar.note or f"{sum(bar.parts.values()):.3g}", "lm")
    buffer = io.BytesIO()
    image.resize((WIDTH, height), Image.Resampling.LANCZOS).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
