"""What means of scores tell, and how surely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_DRAWN_AT_ONCE: Final = 4_000_000
"""Numbers in memory: 32 MB of places, and as much of values."""


@dataclass(frozen=True)
class Bootstrap:
    """How often, from where, and what share of the resamples an interval holds."""

    resamples: int = 10_000
    confidence: float = 0.95
    seed: int = 0


@dataclass(frozen=True)
class Mean:
    """A mean and the interval around it."""

    value: float
    low: float
    high: float


def mean(values: Sequence[float], bootstrap: Bootstrap) -> Mean:
    """The mean of independent values, with its percentile bootstrap interval (Efron 1979).

    The same values in the same order and the same seed give the same interval, on any machine.

    Raises:
        ValueError: there are no values.
    """
    import numpy as np  # noqa: PLC0415 - where it is counted

    if not values:
        raise ValueError("found no values; expected one at least")
    given = np.asarray(values, dtype=np.float64)
    tail = (1 - bootstrap.confidence) / 2
    low, high = np.quantile(_resampled_means(given, bootstrap), [tail, 1 - tail])
    return Mean(float(given.mean()), float(low), float(high))


def paired_difference(ours: Sequence[float], theirs: Sequence[float], bootstrap: Bootstrap) -> Mean:
    """How much higher the mean of `ours` is, where each of `theirs` is of the same case.

    Cases are drawn, each with both its scores: what makes a case hard for both does not blur the difference.

    Raises:
        ValueError: there are not as many of one as of the other, or none.
    """
    if len(ours) != len(theirs):
        raise ValueError(
            f"found {len(ours)} scores and {len(theirs)} to compare with; expected one of each for each case"
        )
    return mean([our - their for our, their in zip(ours, theirs, strict=True)], bootstrap)


def _resampled_means(values: NDArray[np.float64], bootstrap: Bootstrap) -> NDArray[np.float64]:
    import numpy as np  # noqa: PLC0415 - as above

    # The generator by its name: numpy may choose another default one day.
    chance = np.random.Generator(np.random.PCG64(bootstrap.seed))
    at_once = max(1, _DRAWN_AT_ONCE // len(values))
    means = [
        values[chance.integers(0, len(values), size=(min(at_once, bootstrap.resamples - start), len(values)))].mean(
            axis=1
        )
        for start in range(0, bootstrap.resamples, at_once)
    ]
    return np.concatenate(means)
