"""The rows of a Parquet file, through pyarrow: for the trainer, whose image has it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa
from pyarrow import parquet as pq

from perdure_data.datasets.errors import DatasetBroken
from perdure_data.datasets.fields import RecordParser
from perdure_data.datasets.parquet.footer import Footer, needed_columns, read_footer
from perdure_data.datasets.records import Record
from perdure_data.datasets.wording import not_utf8
from perdure_data.stores import READ_CHUNK_BYTES, ObjectInfo, Stores

BATCH_BYTES: Final = 8 * 2**20
_BATCH_ROWS: Final = 4096


def row_records(stores: Stores, info: ObjectInfo, parser: RecordParser) -> Iterator[Record]:
    """The records of a file, in its order, a batch in memory at a time; other columns are not read.

    Raises:
        DatasetBroken: with URI and row, counted from 1, or row group.
        Unavailable: the store is away; begin again later.
    """
    footer = read_footer(stores, info)
    columns = needed_columns(info.uri, footer, parser)
    for row, fields in enumerate(_rows(stores, info, footer, columns), 1):
        yield parser.record(f"dataset {info.uri}, row {row}", fields)


def _rows(stores: Stores, info: ObjectInfo, footer: Footer, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    row = 0
    try:
        with pq.ParquetFile(
            pa.PythonFile(_StoredFile(stores, info), mode="r"),
            buffer_size=READ_CHUNK_BYTES,
            pre_buffer=False,  # it would read whole row groups ahead
            page_checksum_verification=True,
        ) as file:
            for batch in file.iter_batches(_batch_rows(footer, columns), columns=list(columns), use_threads=False):
                yield from _fields(info, batch, row)
                row += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise DatasetBroken(
            f"dataset {info.uri}, after row {row}: cannot be read as Parquet ({error}); write it again"
        ) from error
    if row != footer.rows:
        # A damaged page header can make a page look like none.
        raise DatasetBroken(
            f"dataset {info.uri} has {row} rows, though its footer tells of {footer.rows}: it is damaged. Write it "
            "again"
        )


def _fields(info: ObjectInfo, batch: pa.RecordBatch, before: int) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = batch.to_pylist()
    except UnicodeDecodeError:
        found = [_fields_of_row(info, batch.slice(index, 1), before + index + 1) for index in range(batch.num_rows)]
    return found


def _fields_of_row(info: ObjectInfo, batch: pa.RecordBatch, row: int) -> dict[str, Any]:
    try:
        found: dict[str, Any] = batch.to_pylist()[0]
    except UnicodeDecodeError as error:
        raise DatasetBroken(
            f"dataset {info.uri}, row {row}: {not_utf8(error.object[error.start], error.start)}"
        ) from error
    return found


def _batch_rows(footer: Footer, columns: tuple[str, ...]) -> int:
    row_bytes = sum(footer.uncompressed_bytes.get(name, 0) for name in columns) / footer.rows
    return max(1, min(_BATCH_ROWS, int(BATCH_BYTES / max(1.0, row_bytes))))


class _StoredFile(io.RawIOBase):
    """An object of a store as a file that can be read anywhere, in requests no larger than those of a stream."""

    def __init__(self, stores: Stores, info: ObjectInfo) -> None:
        super().__init__()
        self._stores = stores
        self._info = info
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._info.size_bytes}[whence]
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def read(self, size: int = -1, /) -> bytes:
        end = self._info.size_bytes if size < 0 else self._place + size
        ranges = range(self._place, end, READ_CHUNK_BYTES)
        content = b"".join(
            self._stores.read_range(self._info, start, min(start + READ_CHUNK_BYTES, end)) for start in ranges
        )
        self._place += len(content)
        return content
