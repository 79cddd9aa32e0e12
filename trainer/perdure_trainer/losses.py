"""The loss of a run from its first step on, whichever attempts took the steps: for the picture beside the adapter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

POINTS_LIMIT: Final = 1000
"""More could not be told apart in a picture, and each is in every checkpoint."""


class Point(NamedTuple):
    """A loss at a step."""

    step: float
    loss: float


class Losses:
    """Points at even distances, which double when there are too many.

    What is kept follows from the steps alone: a run that was stopped and resumed has the points of one that was not.
    """

    def __init__(self, points: Sequence[Point] = ()) -> None:
        self._points = list(points)
        self._distance = points[1].step - points[0].step if len(points) > 1 else 1

    @property
    def points(self) -> tuple[Point, ...]:
        """What is kept, in order of the steps."""
        return tuple(self._points)

    def add(self, step: int, loss: float) -> None:
        """Takes note of one more step."""
        if step % self._distance:
            return
        self._points.append(Point(step, loss))
        if len(self._points) > POINTS_LIMIT:
            self._distance *= 2
            self._points = [point for point in self._points if point.step % self._distance == 0]
