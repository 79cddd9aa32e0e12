"""Whether a dataset can be trained on, found out before any GPU is asked for: by reading it."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from perdure_api.spec import DatasetFormat, DatasetSpec
from perdure_data.datasets.errors import DatasetBroken, DatasetEmpty
from perdure_data.datasets.passages import Region, Source, passages
from perdure_data.datasets.reading import locate
from perdure_data.datasets.records import Passage
from perdure_data.stores import READ_CHUNK_BYTES, ObjectInfo, Stores

MEBIBYTE: Final = 2**20


@dataclass(frozen=True)
class ReadingPlan:
    """How much of a dataset is read: all of it up to a limit, beyond that head, tail and a sample between."""

    whole_limit_bytes: int = 256 * MEBIBYTE
    edge_bytes: int = 16 * MEBIBYTE
    sample_bytes: int = 4 * MEBIBYTE
    samples: int = 32
    seed: int = 0

    def regions(self, size_bytes: int) -> list[Region]:
        """The regions to read, in the order of the file; they do not overlap."""
        if size_bytes <= self.whole_limit_bytes:
            return [Region(0, size_bytes, size_bytes)]
        middle = range(self.edge_bytes, size_bytes - self.edge_bytes - self.sample_bytes, self.sample_bytes)
        starts = sorted(random.Random(self.seed).sample(middle, min(self.samples, len(middle))))  # noqa: S311 - a sample
        return [
            Region(0, self.edge_bytes, size_bytes),
            *(Region(start, start + self.sample_bytes, size_bytes) for start in starts),
            Region(size_bytes - self.edge_bytes, size_bytes, size_bytes),
        ]


@dataclass(frozen=True)
class DatasetReport:
    """What a dataset is, as far as it was read."""

    uri: str
    size_bytes: int
    documents: int
    """Counted; an estimate from the share that was read when that is not the whole."""
    whole: bool
    """Whether every byte was read."""
    fingerprint: str
    """`sha256:` of the content, or `sampled-sha256:` of size, tag and the regions that were read."""
    held_out: DatasetReport | None = None
    """The same of the evaluation data, where the spec names any."""


async def check_dataset(stores: Stores, spec: DatasetSpec, plan: ReadingPlan | None = None) -> DatasetReport:
    """What the datasets of a spec are, after reading them.

    Reading and parsing run in a thread: hundreds of megabytes would stop an event loop for seconds.

    Raises:
        DatasetError: it cannot be trained on; its `reason` and message say why.
        Unavailable: the store is away; try again later.
    """
    return await asyncio.to_thread(check_dataset_now, stores, spec, plan or ReadingPlan())


def check_dataset_now(stores: Stores, spec: DatasetSpec, plan: ReadingPlan) -> DatasetReport:
    """The same as `check_dataset`, for callers that may block."""
    held_out = Source.held_out(spec)
    return _check(stores, Source.training(spec), plan, _check(stores, held_out, plan) if held_out else None)


def _check(stores: Stores, source: Source, plan: ReadingPlan, held_out: DatasetReport | None = None) -> DatasetReport:
    info = locate(stores, source)
    regions = plan.regions(info.size_bytes)
    digest = hashlib.sha256()
    census = _Census()
    for region in regions:
        for passage in passages(source, _read(stores, info, region, digest), region):
            census.count(passage)
    census.refuse_useless(source)
    read_bytes = sum(region.end - region.start for region in regions)
    whole = read_bytes == info.size_bytes
    if not whole:
        digest.update(f"{info.size_bytes} {info.etag}".encode())
    return DatasetReport(
        uri=str(source.uri),
        size_bytes=info.size_bytes,
        documents=_documents(source, census.documents, info.size_bytes / read_bytes),
        whole=whole,
        fingerprint=f"{'sha256' if whole else 'sampled-sha256'}:{digest.hexdigest()}",
        held_out=held_out,
    )


def _documents(source: Source, counted: int, share: float) -> int:
    return 1 if source.format is DatasetFormat.TEXT else max(1, round(counted * share))


def _read(stores: Stores, info: ObjectInfo, region: Region, digest: hashlib._Hash) -> Iterator[bytes]:
    for start in range(region.start, region.end, READ_CHUNK_BYTES):
        chunk = stores.read_range(info, start, min(start + READ_CHUNK_BYTES, region.end))
        digest.update(chunk)
        yield chunk


class _Census:
    """Counts documents, and watches for the first sign that they say more than one thing."""

    def __init__(self) -> None:
        self.documents = 0
        self._characters: set[str] = set()
        self._words: set[str] = set()
        self._word_count = 0

    def count(self, passage: Passage) -> None:
        """Takes one passage into account."""
        words = passage.text.split()
        if not words:
            return
        self.documents += passage.ends_document
        self._word_count += len(words)
        if len(self._words) < 2:  # noqa: PLR2004 - a second word is all it takes
            self._words.update(words)
        if len(self._characters) < 2:  # noqa: PLR2004 - the same of characters
            self._characters.update(*words)

    def refuse_useless(self, source: Source) -> None:
        """Raises DatasetEmpty when nothing was said, DatasetBroken when it was one thing over and over."""
        if not self._words:
            raise DatasetEmpty(
                f"dataset {source.uri} holds nothing but white space; expected text. Check how it was made"
            )
        repeated = len(self._words) == 1 and self._word_count > 1
        if repeated or len(self._characters) == 1:
            word = next(iter(self._words))
            raise DatasetBroken(
                f'dataset {source.uri} says only "{word[:40]}", {self._word_count} times; '
                "nothing can be learnt from that. Check how it was made"
            )
