"""How much of a dataset is read to know whether it can be trained on."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Final

MEBIBYTE: Final = 2**20
LEAST_EDGE_BYTES: Final = MEBIBYTE // 16
"""Of each of many files, at least this much is read at both ends."""


@dataclass(frozen=True)
class Region:
    """A range of bytes."""

    start: int
    end: int


@dataclass(frozen=True)
class ReadingPlan:
    """How much of a dataset is read: all of it up to a limit, beyond that head, tail and a sample between.

    What is compressed can be read from its front only: that, up to the same limit, counted as it is decompressed.
    """

    whole_limit_bytes: int = 256 * MEBIBYTE
    edge_bytes: int = 16 * MEBIBYTE
    sample_bytes: int = 4 * MEBIBYTE
    samples: int = 32
    seed: int = 0

    def for_file(self, size_bytes: int, all_bytes: int) -> ReadingPlan:
        """The part of it that a file has, in a dataset of so many bytes altogether.

        It is the plan itself when the file is the whole dataset, and reads the whole file when the dataset is small.
        """
        if size_bytes == all_bytes:
            return self
        share = size_bytes / all_bytes
        edge = max(min(LEAST_EDGE_BYTES, self.edge_bytes), round(self.edge_bytes * share))
        return replace(
            self,
            whole_limit_bytes=size_bytes if all_bytes <= self.whole_limit_bytes else 2 * edge,
            edge_bytes=edge,
            samples=round(self.samples * share),
        )

    def front_bytes(self, size_bytes: int, all_bytes: int) -> int:
        """How much of the content of a compressed file is read."""
        return max(min(LEAST_EDGE_BYTES, self.edge_bytes), round(self.whole_limit_bytes * size_bytes / all_bytes))

    def regions(self, size_bytes: int) -> list[Region]:
        """The regions of a file to read, in its order; they do not overlap."""
        if size_bytes <= self.whole_limit_bytes:
            return [Region(0, size_bytes)]
        middle = range(self.edge_bytes, size_bytes - self.edge_bytes - self.sample_bytes, self.sample_bytes)
        starts = sorted(random.Random(self.seed).sample(middle, min(self.samples, len(middle))))  # noqa: S311 - a sample
        return [
            Region(0, self.edge_bytes),
            *(Region(start, start + self.sample_bytes) for start in starts),
            Region(size_bytes - self.edge_bytes, size_bytes),
        ]
