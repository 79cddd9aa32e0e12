"""Recordings that the records of a dataset name: checked by their headers, or read."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain, islice
from typing import Final, cast

from perdure_api.uri import StoreUri, UriError, parse_uri
from perdure_data.datasets.errors import DatasetBroken, DatasetDenied
from perdure_data.datasets.records import Record, Utterance
from perdure_data.datasets.wav import HEAD_BYTES, WavError, WavHeader, wav_header
from perdure_data.datasets.wording import shown
from perdure_data.errors import AccessDenied, NotFound, TooLarge
from perdure_data.stores import ObjectInfo, Stores

FRAMES_PER_SECOND: Final = 12.5
"""Of Mimi, the codec of the speech models that there are (Défossez et al. 2024)."""
LONGEST_SECONDS: Final = 163.84
"""What fits into the 2048 positions of CSM."""
SHORTEST_SECONDS: Final = 0.08
"""One frame."""
LIMIT_BYTES: Final = 64 * 2**20
"""Six minutes of 16-bit stereo at 48 kHz."""
READ_AT_FIRST: Final = 1024
"""Of so many recordings every header is read, of those behind them every READ_EVERY-th; all must be there."""
READ_EVERY: Final = 16
_AT_A_TIME: Final = 16
_HEADERS_BATCH: Final = 64


class RecordingsCheck:
    """Looks at recordings without reading more than their headers."""

    def __init__(self, stores: Stores, longest_seconds: float) -> None:
        self.count = 0
        self._stores = stores
        self._longest_seconds = longest_seconds
        self._digest = hashlib.sha256()

    @property
    def digest(self) -> bytes:
        """Over size and tag of each recording."""
        return self._digest.digest()

    def checked(self, file: StoreUri, records: Iterable[Record]) -> Iterator[Record]:
        """The same records of a file.

        Raises:
            DatasetBroken: a recording is not there, no WAV file, empty or too long; with file and line.
            DatasetDenied: it may not be read.
        """
        utterances, others = _sorted_out(records)
        yield from others
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            for batch in _batches(utterances, _HEADERS_BATCH):
                for info in pool.map(lambda each: self._look_at(file, *each), enumerate(batch, self.count)):
                    self._digest.update(f"{info.size_bytes} {info.etag}\n".encode())
                self.count += len(batch)
                yield from batch

    def _look_at(self, file: StoreUri, number: int, utterance: Utterance) -> ObjectInfo:
        uri = recording_uri(file, utterance)
        try:
            info = self._stores.head(uri)
            if number < READ_AT_FIRST or number % READ_EVERY == 0:
                header = _header(utterance, self._stores.read_range(info, 0, HEAD_BYTES), info.size_bytes)
                refuse_length(utterance, header.seconds, self._longest_seconds)
        except (NotFound, AccessDenied) as error:
            raise _absent(utterance, error) from error
        return info


def with_recordings(stores: Stores, file: StoreUri, records: Iterable[Record]) -> Iterator[Record]:
    """The records of a file; utterances with their recordings, of which a few are in memory at a time.

    Raises:
        DatasetError: a recording is not there, may not be read, or is no WAV file.
    """
    utterances, others = _sorted_out(records)
    yield from others
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        for batch in _batches(utterances, _AT_A_TIME):
            yield from pool.map(lambda utterance: _read(stores, file, utterance), batch)


def recording_uri(file: StoreUri, utterance: Utterance) -> StoreUri:
    """Where the recording of an utterance in a file is.

    Raises:
        DatasetBroken: its name leads nowhere, or from a store into the machine that reads it.
    """
    name = utterance.audio
    what = f'{utterance.where}: field "audio" is "{shown(name)}"'
    if "://" in name:
        try:
            uri = parse_uri(name)
        except UriError as error:
            raise DatasetBroken(f"{what}: {error}") from error
        if uri.scheme == "file" and file.scheme != "file":
            raise DatasetBroken(f"{what}, a path of whichever machine reads it; upload the recording to the store")
        return uri
    path = posixpath.normpath(posixpath.join(file.parent.path, name))
    if not name.strip() or name.startswith("/") or path.startswith(".."):
        raise DatasetBroken(f"{what}; expected a path relative to this file, or a store URI")
    return StoreUri(file.scheme, file.bucket, path)


def refuse_length(utterance: Utterance, seconds: float, longest_seconds: float) -> None:
    """Raises DatasetBroken when there is nothing to hear, or more than fits into a sequence."""
    what = f"{utterance.where}: the recording {shown(utterance.audio)}"
    if seconds < SHORTEST_SECONDS:
        raise DatasetBroken(f"{what} is empty ({seconds:.2f} s of sound); record it again, or drop the record")
    if seconds > longest_seconds:
        raise DatasetBroken(
            f"{what} lasts {seconds:.1f} s; at most {longest_seconds:.1f} s fit into training.sequenceLength (12.5 "
            "frames a second). Cut it into sentences, or raise that"
        )


def _read(stores: Stores, file: StoreUri, utterance: Utterance) -> Utterance:
    try:
        wav = stores.read(recording_uri(file, utterance), limit_bytes=LIMIT_BYTES)
    except (NotFound, AccessDenied) as error:
        raise _absent(utterance, error) from error
    except TooLarge as error:
        raise DatasetBroken(f"{utterance.where}: the recording is too large: {error}") from error
    _header(utterance, wav, len(wav))
    return replace(utterance, wav=wav)


def _header(utterance: Utterance, head: bytes, size_bytes: int) -> WavHeader:
    try:
        return wav_header(head, size_bytes)
    except WavError as error:
        raise DatasetBroken(f"{utterance.where}: the recording {shown(utterance.audio)} {error}") from error


def _absent(utterance: Utterance, error: NotFound | AccessDenied) -> DatasetBroken | DatasetDenied:
    kind = DatasetBroken if isinstance(error, NotFound) else DatasetDenied
    return kind(f"{utterance.where}: the recording {error}")


def _sorted_out(records: Iterable[Record]) -> tuple[Iterator[Utterance], Iterator[Record]]:
    """Utterances, and records of other kinds; one of them is empty, for all records of a dataset are of one kind."""
    rest = iter(records)
    first = next(rest, None)
    if isinstance(first, Utterance):
        return chain([first], cast("Iterator[Utterance]", rest)), iter(())
    return iter(()), iter(()) if first is None else chain([first], rest)


def _batches(utterances: Iterator[Utterance], size: int) -> Iterator[list[Utterance]]:
    while batch := list(islice(utterances, size)):
        yield batch
