"""Whether a dataset can be trained on, found out before any GPU is asked for: by reading it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from perdure_api.spec import DatasetSpec, RecordFields
from perdure_data.datasets.census import Census
from perdure_data.datasets.compression import decompressed, sliced
from perdure_data.datasets.extract import Extract, front
from perdure_data.datasets.fields import RecordParser
from perdure_data.datasets.files import locate, look_at
from perdure_data.datasets.fingerprints import combined
from perdure_data.datasets.formats import DatasetFile, FileFormat
from perdure_data.datasets.jsonl import line_records
from perdure_data.datasets.parquet.footer import needed_columns, read_footer
from perdure_data.datasets.plan import ReadingPlan, Region
from perdure_data.datasets.recordings import LONGEST_SECONDS, RecordingsCheck
from perdure_data.datasets.records import Record
from perdure_data.datasets.source import Source
from perdure_data.datasets.text import text_passages
from perdure_data.stores import READ_CHUNK_BYTES, ObjectInfo, Stores


class Extent(StrEnum):
    """How much of a file, or of a dataset, was read: the name of its fingerprint says so."""

    WHOLE = "sha256"
    FOOTER = "footer-sha256"
    """Of Parquet, what it says of itself."""
    FRONT = "front-sha256"
    """Of what is compressed, the beginning."""
    SAMPLED = "sampled-sha256"
    """Both ends and some places between; of several files, less than the whole of more than one kind."""


@dataclass(frozen=True)
class DatasetReport:
    """What a dataset is, as far as it was read."""

    uri: str
    files: int
    size_bytes: int
    """As stored."""
    documents: int
    """Counted, or estimated from the share that was read."""
    records: RecordFields
    """What each of them is: a text, a prompt with its completion, messages, or a recording with its transcript."""
    extent: Extent
    fingerprint: str
    """`sha256:` of the content, as the trainer finds it again; another word before it tells what it stands for:
    see Extent. It then covers size and tag of each file, and what was read of it."""
    held_out: DatasetReport | None = None
    """The same of the evaluation data, where the spec names any."""

    @property
    def noun(self) -> str:
        """What its records are called."""
        match self.records:
            case RecordFields.COMPLETION:
                return "prompts with completions"
            case RecordFields.MESSAGES:
                return "conversations"
            case RecordFields.SPEECH:
                return "recordings with transcripts"
            case RecordFields.TEXT | RecordFields.AUTO:
                return "documents"


async def check_dataset(
    stores: Stores, spec: DatasetSpec, plan: ReadingPlan | None = None, longest_seconds: float = LONGEST_SECONDS
) -> DatasetReport:
    """What the datasets of a spec are, after reading them; no recording may last longer than `longest_seconds`.

    Reading and parsing run in a thread: hundreds of megabytes would stop an event loop for seconds.

    Raises:
        DatasetError: it cannot be trained on; its `reason` and message say why.
        Unavailable: the store is away; try again later.
    """
    return await asyncio.to_thread(check_dataset_now, stores, spec, plan or ReadingPlan(), longest_seconds)


def check_dataset_now(
    stores: Stores, spec: DatasetSpec, plan: ReadingPlan, longest_seconds: float = LONGEST_SECONDS
) -> DatasetReport:
    """The same as `check_dataset`, for callers that may block."""
    held_out = Source.held_out(spec)
    report = _Check(stores, held_out, plan, longest_seconds).report() if held_out else None
    return _Check(stores, Source.training(spec), plan, longest_seconds).report(report)


@dataclass(frozen=True)
class _Survey:
    """What was found in one file."""

    extent: Extent
    documents: float
    digest: bytes


class _Check:
    """The check of one source."""

    def __init__(self, stores: Stores, source: Source, plan: ReadingPlan, longest_seconds: float) -> None:
        self._stores = stores
        self._source = source
        self._plan = plan
        self._parser = RecordParser(source)
        self._census = Census()
        self._recordings = RecordingsCheck(stores, longest_seconds)
        self._all_bytes = 0

    def report(self, held_out: DatasetReport | None = None) -> DatasetReport:
        """What the source is.

        Raises:
            DatasetError: it cannot be trained on.
        """
        files = locate(self._stores, self._source)
        self._all_bytes = sum(info.size_bytes for info in files)
        surveys = [self._survey(file) for file in look_at(self._stores, self._source, files)]
        if any(survey.extent is not Extent.FOOTER for survey in surveys):
            self._census.refuse_useless(self._source)
        digests = [survey.digest for survey in surveys]
        extent = _extent_of({survey.extent for survey in surveys})
        if self._recordings.count:
            digests.append(self._recordings.digest)
            extent = Extent.SAMPLED
        return DatasetReport(
            uri=str(self._source.uri),
            files=len(files),
            size_bytes=self._all_bytes,
            documents=max(1, round(sum(survey.documents for survey in surveys))),
            records=self._parser.kind,
            extent=extent,
            fingerprint=f"{extent}:{combined(digests)}",
            held_out=held_out,
        )

    def _survey(self, file: DatasetFile) -> _Survey:
        if file.format is FileFormat.PARQUET:
            return self._survey_footer(file.info)
        return self._survey_front(file) if file.compression else self._survey_regions(file)

    def _survey_footer(self, info: ObjectInfo) -> _Survey:
        footer = read_footer(self._stores, info)
        needed_columns(info.uri, footer, self._parser)
        return _Survey(Extent.FOOTER, footer.rows, _tagged(hashlib.sha256(footer.content), info))

    def _survey_front(self, file: DatasetFile) -> _Survey:
        digest = hashlib.sha256()
        read_bytes = 0

        def counted() -> Iterator[bytes]:
            nonlocal read_bytes
            for piece in sliced(self._stores.stream(file.info)):
                read_bytes += len(piece)
                digest.update(piece)
                yield piece

        content = decompressed(file.info.uri, file.compression, counted())
        extract = front(file.info.uri, content, self._plan.front_bytes(file.info.size_bytes, self._all_bytes))
        documents = self._count(file, [extract])
        if extract.at_end:
            return _Survey(Extent.WHOLE, documents, digest.digest())
        return _Survey(
            Extent.FRONT, _extrapolated(file, documents, file.info.size_bytes / read_bytes), _tagged(digest, file.info)
        )

    def _survey_regions(self, file: DatasetFile) -> _Survey:
        info = file.info
        regions = self._plan.for_file(info.size_bytes, self._all_bytes).regions(info.size_bytes)
        digest = hashlib.sha256()
        documents = self._count(file, (self._extract(info, region, digest) for region in regions))
        read_bytes = sum(region.end - region.start for region in regions)
        if read_bytes == info.size_bytes:
            return _Survey(Extent.WHOLE, documents, digest.digest())
        return _Survey(
            Extent.SAMPLED, _extrapolated(file, documents, info.size_bytes / read_bytes), _tagged(digest, info)
        )

    def _extract(self, info: ObjectInfo, region: Region, digest: hashlib._Hash) -> Extract:
        def chunks() -> Iterator[bytes]:
            for start in range(region.start, region.end, READ_CHUNK_BYTES):
                chunk = self._stores.read_range(info, start, min(start + READ_CHUNK_BYTES, region.end))
                digest.update(chunk)
                yield chunk

        return Extract(info.uri, chunks(), region.start, at_end=region.end >= info.size_bytes)

    def _count(self, file: DatasetFile, extracts: Iterable[Extract]) -> int:
        before = self._census.documents
        for extract in extracts:
            for record in self._recordings.checked(file.info.uri, self._records(file, extract)):
                self._census.count(record)
        return self._census.documents - before

    def _records(self, file: DatasetFile, extract: Extract) -> Iterator[Record]:
        match file.format:
            case FileFormat.TEXT:
                return text_passages(extract)
            case FileFormat.JSONL:
                return line_records(extract, self._parser)
            case FileFormat.PARQUET:
                raise AssertionError(file)  # pragma: no cover - surveyed by its footer
            case _:
                assert_never(file.format)


def _extrapolated(file: DatasetFile, counted: int, share: float) -> float:
    """A text file is one document however much of it was read."""
    return 1 if file.format is FileFormat.TEXT else counted * share


def _extent_of(extents: set[Extent]) -> Extent:
    less = extents - {Extent.WHOLE}
    return less.pop() if len(less) == 1 else Extent.SAMPLED if less else Extent.WHOLE


def _tagged(digest: hashlib._Hash, info: ObjectInfo) -> bytes:
    digest.update(f"{info.size_bytes} {info.etag}".encode())
    return digest.digest()
