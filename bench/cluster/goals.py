"""Goals, and whether a figure reaches them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.cluster.figures import markdown, rounded, spread


@dataclass(frozen=True)
class Goal:
    """A figure, and where it should be."""

    figure: str
    limit: float
    at_least: bool = False
    """Or at most."""
    unit: str = ""
    anchor: str = ""
    """What others reach."""

    def reached(self, value: float) -> bool:
        """Whether this is good enough."""
        return value >= self.limit if self.at_least else value <= self.limit

    def row(self, values: Sequence[float]) -> list[str]:
        """One line of a table: the figure, what was measured (each turn), the goal, and whether the mean reaches it."""
        unit = f" {self.unit}" if self.unit else ""
        goal = f"{'≥' if self.at_least else '≤'} {rounded(self.limit)}{unit}"
        if not values:
            return [self.figure, "-", goal, "not measured", self.anchor]
        verdict = "yes" if self.reached(sum(values) / len(values)) else "no"
        return [self.figure, f"{spread(values)}{unit}", goal, verdict, self.anchor]


def table(rows: Sequence[Sequence[str]]) -> str:
    """Goals with what was measured."""
    return markdown(["figure", "measured", "goal", "reached", "elsewhere"], rows)
