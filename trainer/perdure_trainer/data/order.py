"""The order in which samples are trained on: shuffled anew each epoch, and found again from two numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


class Order:
    """An endless row of sample indices: a permutation of all of them, then another, and so on.

    Entry p is a pure function of (seed, count, p), so that a resume needs nothing but its position.
    """

    def __init__(self, seed: int, count: int) -> None:
        self._seed = seed
        self._count = count
        self._epoch = -1
        self._permutation: npt.NDArray[np.int64] = np.empty(0, np.int64)

    def indices(self, position: int, length: int) -> list[int]:
        """The entries from `position` on."""
        return [self._entry(place) for place in range(position, position + length)]

    def _entry(self, position: int) -> int:
        epoch, place = divmod(position, self._count)
        if epoch != self._epoch:
            # Philox is counter-based: its stream is fixed by its key, on every platform.
            generator = np.random.Generator(np.random.Philox(key=[self._seed, epoch]))
            self._epoch, self._permutation = epoch, generator.permutation(self._count)
        return int(self._permutation[place])
