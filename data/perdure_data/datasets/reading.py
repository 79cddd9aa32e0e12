"""A dataset read from front to back, for those who train on it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from perdure_data.datasets.errors import DatasetDenied, DatasetEmpty, DatasetNotFound
from perdure_data.datasets.passages import Region, Source, passages
from perdure_data.datasets.records import Passage, Record
from perdure_data.errors import AccessDenied, NotFound
from perdure_data.stores import ObjectInfo, Stores


def locate(stores: Stores, source: Source) -> ObjectInfo:
    """Where a dataset is, and its size.

    Raises:
        DatasetNotFound: there is none, or a folder.
        DatasetDenied: it may not be read.
        DatasetEmpty: no byte in it.
        Unavailable: the store is away; try again later.
    """
    try:
        info = stores.head(source.uri)
    except NotFound as error:
        raise DatasetNotFound(f"dataset {error}{_what_is_below(stores, source)}") from error
    except AccessDenied as error:
        raise DatasetDenied(f"dataset {error}") from error
    if info.size_bytes == 0:
        raise DatasetEmpty(f"dataset {source.uri} has 0 bytes; expected at least one document. Upload it again")
    return info


def _what_is_below(stores: Stores, source: Source) -> str:
    try:
        files, folders = stores.children(source.uri)
    except (NotFound, AccessDenied):
        return ""
    names = [info.uri.path.rpartition("/")[2] for info in files]
    if not names and not folders:
        return ""
    return f" (it is a folder; spec.dataset.uri must be one file{f', such as {names[0]} there' if names else ''})"


class DatasetReader:
    """One pass over a dataset, which is hashed on the way."""

    def __init__(self, stores: Stores, source: Source) -> None:
        self._stores = stores
        self._source = source
        self._digest = hashlib.sha256()

    def records(self) -> Iterator[Record]:
        """The records in their order, all of one kind, one chunk in memory at a time.

        Raises:
            DatasetError: it is not there, or not what its format promises.
            Unavailable: the store is away; begin again later.
        """
        info = locate(self._stores, self._source)
        self._digest = hashlib.sha256()
        whole = Region(0, info.size_bytes, info.size_bytes)
        yield from passages(self._source, self._hashed(self._stores.stream(info)), whole)

    def passages(self) -> Iterator[Passage]:
        """The records of a dataset that holds nothing but passages."""
        yield from (record for record in self.records() if isinstance(record, Passage))

    @property
    def fingerprint(self) -> str:
        """`sha256:…` of what was read; of the whole file once `records` has come to its end."""
        return f"sha256:{self._digest.hexdigest()}"

    def _hashed(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._digest.update(chunk)
            yield chunk
