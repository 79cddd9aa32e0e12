"""A dataset read from front to back, for those who train on it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import assert_never

from perdure_data.datasets.compression import decompressed
from perdure_data.datasets.extract import Extract
from perdure_data.datasets.fields import RecordParser
from perdure_data.datasets.files import locate, look_at
from perdure_data.datasets.fingerprints import combined
from perdure_data.datasets.formats import DatasetFile, FileFormat
from perdure_data.datasets.jsonl import line_records
from perdure_data.datasets.recordings import with_recordings
from perdure_data.datasets.records import Completion, Conversation, Passage, Record, Utterance
from perdure_data.datasets.source import Source
from perdure_data.datasets.text import text_passages
from perdure_data.stores import Stores


class DatasetReader:
    """One pass over all files of a dataset, which are hashed on the way."""

    def __init__(self, stores: Stores, source: Source) -> None:
        self._stores = stores
        self._source = source
        self._digests = [hashlib.sha256()]
        self._recordings: hashlib._Hash | None = None

    def records(self) -> Iterator[Record]:
        """The records in their order, all of one kind; a small part of one file is in memory at a time.

        Raises:
            DatasetError: it is not there, or not what its format promises.
            Unavailable: the store is away; begin again later.
        """
        self._digests = []
        self._recordings = None
        parser = RecordParser(self._source)
        for file in look_at(self._stores, self._source, locate(self._stores, self._source)):
            self._digests.append(hashlib.sha256())
            for record in with_recordings(self._stores, file.info.uri, self._records_of(file, parser)):
                if isinstance(record, Utterance):
                    self._hash_recording(record)
                yield record

    @property
    def fingerprint(self) -> str:
        """`sha256:…` of what was read; of the whole dataset once `records` has come to its end.

        It covers each file's bytes as they are stored, or of Parquet, where other columns are not read, the records;
        and the recordings that they name.
        """
        digests = [*self._digests, self._recordings] if self._recordings else self._digests
        return f"sha256:{combined([digest.digest() for digest in digests])}"

    def _records_of(self, file: DatasetFile, parser: RecordParser) -> Iterator[Record]:
        match file.format:
            case FileFormat.TEXT:
                yield from text_passages(self._content(file))
            case FileFormat.JSONL:
                yield from line_records(self._content(file), parser)
            case FileFormat.PARQUET:
                # Only trainers have pyarrow, and it takes a while to load.
                from perdure_data.datasets.parquet.rows import row_records  # noqa: PLC0415

                yield from self._hashed_records(row_records(self._stores, file.info, parser))
            case _:
                assert_never(file.format)

    def _hash_recording(self, utterance: Utterance) -> None:
        self._recordings = self._recordings or hashlib.sha256()
        self._recordings.update(len(utterance.wav).to_bytes(8, "little") + utterance.wav)

    def _content(self, file: DatasetFile) -> Extract:
        stored = self._hashed(self._stores.stream(file.info))
        return Extract(file.info.uri, decompressed(file.info.uri, file.compression, stored))

    def _hashed(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._digests[-1].update(chunk)
            yield chunk

    def _hashed_records(self, records: Iterable[Record]) -> Iterator[Record]:
        for record in records:
            for text in _texts(record):
                content = text.encode()
                # With its length: "ab", "c" is not "a", "bc".
                self._digests[-1].update(len(content).to_bytes(8, "little") + content)
            yield record


def _texts(record: Record) -> tuple[str, ...]:
    match record:
        case Passage(text):
            return (text,)
        case Utterance():
            return (record.audio, record.text)
        case Completion(prompt, completion):
            return (prompt, completion)
        case Conversation(messages):
            turns = tuple(part for message in messages for part in (message.role, message.content))
            return (str(len(messages)), *turns)
        case _:
            assert_never(record)
