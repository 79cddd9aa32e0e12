"""Parquet's footer: columns, rows and where the data are. Read without pyarrow, which control plane images lack.

https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from perdure_api.spec import RecordFields
from perdure_api.uri import StoreUri
from perdure_data.datasets.errors import DatasetBroken, DatasetEmpty
from perdure_data.datasets.fields import RecordParser
from perdure_data.datasets.formats import PARQUET_MAGIC, refuse_magic
from perdure_data.datasets.parquet.thrift import ThriftError, struct_of
from perdure_data.datasets.wording import names
from perdure_data.stores import ObjectInfo, Stores

FOOTER_LIMIT_BYTES: Final = 64 * 2**20
_TAIL_BYTES: Final = 8
"""The footer's length (four bytes, little-endian), and the magic."""
_BYTE_ARRAY: Final = 6
_DEPTH_LIMIT: Final = 32


class _Metadata(IntEnum):
    SCHEMA = 2
    ROWS = 3
    ROW_GROUPS = 4


class _Element(IntEnum):
    TYPE = 1
    NAME = 4
    CHILDREN = 5


class _RowGroup(IntEnum):
    CHUNKS = 1


class _Chunk(IntEnum):
    METADATA = 3


class _ChunkMetadata(IntEnum):
    PATH = 3
    VALUES = 5
    UNCOMPRESSED_BYTES = 6
    COMPRESSED_BYTES = 7
    DATA_OFFSET = 9
    DICTIONARY_OFFSET = 11


@dataclass(frozen=True)
class Column:
    """A column, or a field inside one."""

    name: str
    is_text: bool
    """Whether its values are bytes of any length: what text is stored as."""
    children: tuple[Column, ...] = ()

    def leaves(self) -> Iterator[Column]:
        """What it is made of in the end."""
        if not self.children:
            yield self
        for child in self.children:
            yield from child.leaves()


@dataclass(frozen=True)
class Footer:
    """What a Parquet file says of itself."""

    content: bytes
    rows: int
    columns: dict[str, Column]
    uncompressed_bytes: Mapping[str, int]
    """By column."""


def read_footer(stores: Stores, info: ObjectInfo) -> Footer:
    """The footer of a Parquet file, whose data lie where it says as far as sizes can tell.

    Raises:
        DatasetBroken: no Parquet, cut, encrypted, or a footer that cannot be read.
        DatasetEmpty: no rows.
        Unavailable: the store is away; try again later.
    """
    where = f"dataset {info.uri}"
    tail = stores.read_range(info, max(0, info.size_bytes - _TAIL_BYTES), info.size_bytes)
    refuse_magic(info.uri, tail[-4:] if tail.endswith(b"PARE") else b"")
    if not tail.endswith(PARQUET_MAGIC) or len(tail) < _TAIL_BYTES:
        raise DatasetBroken(
            f'{where} does not end as Parquet does (found {tail[-4:]!r}, expected b"PAR1"); it was not written or '
            "uploaded whole. Upload it again"
        )
    length = int.from_bytes(tail[:4], "little")
    start = info.size_bytes - _TAIL_BYTES - length
    if start < len(PARQUET_MAGIC) or length > FOOTER_LIMIT_BYTES:
        raise DatasetBroken(
            f"{where}: its footer is said to have {length} bytes, in a file of {info.size_bytes}; expected at most "
            f"{FOOTER_LIMIT_BYTES}, inside the file. Write it again"
        )
    try:
        footer = _parse(stores.read_range(info, start, start + length), start)
    except ThriftError as error:
        raise DatasetBroken(f"{where}: its Parquet footer cannot be read ({error}); write it again") from error
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        # Numbers that name other things than they should: what was read is a struct, but not this one.
        raise DatasetBroken(f"{where}: its Parquet footer is damaged; write it again") from error
    if footer.rows <= 0:
        raise DatasetEmpty(f"{where} has no rows; expected at least one. Check how it was made")
    return footer


def needed_columns(uri: StoreUri, footer: Footer, parser: RecordParser) -> tuple[str, ...]:
    """The columns that records are made of, as far as the schema tells that they can be.

    Raises:
        DatasetBroken: there are none, or they hold something else than text.
    """
    where = f"dataset {uri}, columns"
    needed = parser.needed(where, footer.columns)
    of_messages = parser.kind is RecordFields.MESSAGES
    for name in needed:
        texts = {leaf.name for leaf in footer.columns[name].leaves() if leaf.is_text}
        expected = {"role", "content"} if of_messages else {name}
        if not expected <= texts or of_messages is not bool(footer.columns[name].children):
            found = names([leaf.name for leaf in footer.columns[name].leaves()])
            raise DatasetBroken(
                f'{where}: "{name}" must hold {"lists of role and content, both" if of_messages else "nothing but"} '
                f"text (found {found}, of which text: {names(texts) if texts else 'none'}); write it so"
            )
    return needed


def _parse(content: bytes, data_end: int) -> Footer:
    metadata = struct_of(content)
    uncompressed: Counter[str] = Counter()
    for group in metadata[_Metadata.ROW_GROUPS]:
        for chunk in group[_RowGroup.CHUNKS]:
            told = chunk[_Chunk.METADATA]
            if told[_ChunkMetadata.VALUES] > 0:
                _refuse_beyond(told, data_end)
            uncompressed[told[_ChunkMetadata.PATH][0].decode()] += int(told[_ChunkMetadata.UNCOMPRESSED_BYTES])
    elements = iter(metadata[_Metadata.SCHEMA])
    root = _column(next(elements, {}), elements, 0)
    return Footer(content, int(metadata[_Metadata.ROWS]), {child.name: child for child in root.children}, uncompressed)


def _refuse_beyond(told: dict[int, Any], data_end: int) -> None:
    begin: int = told.get(_ChunkMetadata.DICTIONARY_OFFSET) or told[_ChunkMetadata.DATA_OFFSET]
    if begin < len(PARQUET_MAGIC) or begin + told[_ChunkMetadata.COMPRESSED_BYTES] > data_end:
        raise ThriftError("it names data beyond the end of the file, which is cut or was changed")


def _column(element: dict[int, Any], rest: Iterator[dict[int, Any]], depth: int) -> Column:
    """A column and, since a schema is written depth first, all below it."""
    if depth > _DEPTH_LIMIT:
        raise ThriftError("columns nested too deeply")
    children = tuple(_column(next(rest, {}), rest, depth + 1) for _ in range(element.get(_Element.CHILDREN) or 0))
    return Column(element[_Element.NAME].decode(), element.get(_Element.TYPE) == _BYTE_ARRAY, children)
