"""The order in which samples are trained on: shuffled anew each epoch, and found again from a number alone."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

_ROUNDS: Final = 12
"""Four make a good permutation of a large range (Luby & Rackoff 1988); small ranges need more."""
_LEAST_HALF_BITS: Final = 3

Numbers = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]


class KeyedPermutation:
    """A permutation of range(count), of which any part can be had without the rest.

    A Feistel network is a permutation of 2^(2 n) numbers whatever its round function does. The range is a part of
    those; a number that falls outside it walks on until it is back inside, which it always gets (Black & Rogaway
    2002). The range is at least a quarter of all, so a walk takes fewer than four steps on average. In smaller ranges
    walks would be long: there all numbers are permuted, and those outside are left out.
    """

    def __init__(self, count: int, *key: int) -> None:
        self._count = np.uint64(count)
        self._half = np.uint64(max(_LEAST_HALF_BITS, ((count - 1).bit_length() + 1) // 2))
        self._mask = np.uint64((1 << int(self._half)) - 1)
        self._keys = _round_keys(key)

    def at(self, places: Indices) -> Indices:
        """The entries at places within the range."""
        numbers = self._small()[places] if self._half == _LEAST_HALF_BITS else self._walked(places.astype(np.uint64))
        return numbers.astype(np.int64)

    def _small(self) -> Numbers:
        numbers = self._cycle(np.arange(1 << (2 * _LEAST_HALF_BITS), dtype=np.uint64))
        return numbers[numbers < self._count]

    def _walked(self, places: Numbers) -> Numbers:
        numbers = self._cycle(places)
        while (outside := numbers >= self._count).any():
            numbers[outside] = self._cycle(numbers[outside])
        return numbers

    def _cycle(self, numbers: Numbers) -> Numbers:
        left, right = numbers >> self._half, numbers & self._mask
        for key in self._keys:
            left, right = right, left ^ (_mixed(right ^ key) & self._mask)
        return (left << self._half) | right


class Order:
    """An endless row of sample numbers: a permutation of all of them, then another, and so on.

    Entry p is a pure function of (seed, count, block, p), so that a resume needs nothing but its position, with any
    number of ranks. Samples of one block (of neighbours: 0 and 1 and 2, 3 and 4 and 5, …) stay side by side. Where
    their number is no multiple of the block, the last, shorter block ends each epoch.
    """

    def __init__(self, seed: int, count: int, block: int = 1) -> None:
        self._seed = seed
        self._count = count
        self._block = block

    def micro_batches(self, position: int, size: int, count: int, rank: int, ranks: int) -> list[list[int]]:
        """One rank's part of a step that begins at `position`: `count` micro-batches of `size` entries.

        Ranks take turns: together their n-th micro-batches are the entries that one rank, with batches as large as
        all of theirs, would have in its n-th.
        """
        return [self.indices(position + (number * ranks + rank) * size, size) for number in range(count)]

    def indices(self, position: int, length: int) -> list[int]:
        """The entries from `position` on."""
        entries: list[int] = []
        while len(entries) < length:
            epoch, place = divmod(position + len(entries), self._count)
            end = min(self._count, place + length - len(entries))
            entries += self._part(epoch, np.arange(place, end)).tolist()
        return entries

    def _part(self, epoch: int, places: Indices) -> Indices:
        blocks, inside = np.divmod(places, self._block)
        whole = blocks < self._count // self._block
        if whole.any():
            permutation = KeyedPermutation(self._count // self._block, self._seed, epoch)
            blocks[whole] = permutation.at(blocks[whole])
        return np.asarray(blocks * self._block + inside, np.int64)


def _round_keys(key: tuple[int, ...]) -> list[np.uint64]:
    """A key for each round, each depending on all of the key: splitmix64 as a sponge."""
    state = np.zeros(1, np.uint64)
    for part in key:
        state = _mixed(state ^ np.uint64(part))
    return [_mixed(state + np.uint64(number))[0] for number in range(1, _ROUNDS + 1)]


def _mixed(numbers: Numbers) -> Numbers:
    """The output function of splitmix64 (Steele, Lea & Flood 2014); arrays of NumPy wrap around without a word."""
    mixed = numbers + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
