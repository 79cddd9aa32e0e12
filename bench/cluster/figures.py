"""Numbers as people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence


def quantile(values: Sequence[float], share: float) -> float:
    """The value that so large a share is at or below (nearest rank: one that was really seen).

    Raises:
        ValueError: there are no values, or the share is not in 0…1.
    """
    if not values or not 0 <= share <= 1:
        raise ValueError(f"no quantile {share} of {len(values)} values")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def rounded(value: float | None, digits: int = 3) -> str:
    """So many significant digits, without an exponent; a dash for what was not measured."""
    if value is None or math.isnan(value):
        return "-"
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{places}f}"


def spread(values: Sequence[float], digits: int = 3) -> str:
    """The mean, and from where to where when there are several."""
    if not values:
        return "-"
    mean = rounded(sum(values) / len(values), digits)
    if len(values) == 1:
        return mean
    return f"{mean} ({rounded(min(values), digits)} to {rounded(max(values), digits)})"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; all columns but the first are numbers, on the right."""
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
