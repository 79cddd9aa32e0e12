from __future__ import annotations

import io
import random
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet as pq

from perdure_api.uri import StoreUri, parse_uri
from perdure_data.datasets import (
    Completion,
    Conversation,
    DatasetBroken,
    DatasetEmpty,
    Message,
    Passage,
    Record,
    Source,
)
from perdure_data.datasets.fields import RecordParser
from perdure_data.datasets.parquet.footer import needed_columns, read_footer
from perdure_data.datasets.parquet.rows import row_records
from perdure_data.errors import Unavailable
from perdure_data.stores import ObjectInfo, Stores

URI = parse_uri("s3://b/train.parquet")
Written = Callable[..., bytes]
CHAT = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]


class Bytes(Stores):
    """A store with one object in it, that counts what is read of it."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self._content = content
        self.read_bytes = 0

    @property
    def info(self) -> ObjectInfo:
        return ObjectInfo(URI, len(self._content), None)

    def read_range(self, info: ObjectInfo, start: int, end: int) -> bytes:
        found = self._content[start : min(end, info.size_bytes)]
        self.read_bytes += len(found)
        return found


def read(content: bytes) -> list[Record]:
    stores = Bytes(content)
    return list(row_records(stores, stores.info, RecordParser(Source(URI))))


def check(content: bytes) -> int:
    """The rows that the footer tells of, once it says that they can be trained on."""
    stores = Bytes(content)
    footer = read_footer(stores, stores.info)
    needed_columns(URI, footer, RecordParser(Source(URI)))
    return footer.rows


@pytest.mark.parametrize(
    ("fields", "record"),
    [
        ({"text": "a", "id": 7}, Passage("a", ends_document=True)),
        ({"prompt": "a", "completion": "b", "id": 7}, Completion("a", "b")),
        ({"messages": CHAT, "prompt": "p"}, Conversation((Message("user", "2 + 2?"), Message("assistant", "4")))),
    ],
    ids=["text", "completion", "messages"],
)
@pytest.mark.parametrize("compression", ["none", "snappy", "zstd", "gzip"])
def test_rows_are_records(parquet_of: Written, fields: dict[str, Any], record: Record, compression: str) -> None:
    content = parquet_of([fields] * 10, compression=compression, row_group_size=3)
    assert check(content) == 10
    assert read(content) == [record] * 10


@pytest.mark.parametrize("type_", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_text_is_text_however_arrow_keeps_it(parquet_of: Written, type_: pa.DataType) -> None:
    content = parquet_of(pa.table({"text": pa.array(["a", "b", "a"]).cast(type_)}))
    assert check(content) == 3
    assert [record.text for record in read(content) if isinstance(record, Passage)] == ["a", "b", "a"]


def test_columns_that_are_not_needed_are_not_read(parquet_of: Written) -> None:
    image = random.Random(1).randbytes(10**6)
    content = parquet_of([{"text": f"document {number}", "image": image[number:]} for number in range(10)])
    stores = Bytes(content)
    assert len(list(row_records(stores, stores.info, RecordParser(Source(URI))))) == 10
    assert stores.read_bytes < 100_000 < len(content)


def test_the_rows_come_as_they_are_asked_for(parquet_of: Written) -> None:
    text = random.Random(1).randbytes(500_000).hex()
    content = parquet_of(
        [{"text": text[number:]} for number in range(40)], row_group_size=4, compression="none", use_dictionary=False
    )
    stores = Bytes(content)
    assert len(content) > 39_000_000
    next(row_records(stores, stores.info, RecordParser(Source(URI))))
    assert stores.read_bytes < 10_000_000


def test_a_store_that_goes_away_is_no_error_of_the_dataset(parquet_of: Written) -> None:
    class GoingAway(Bytes):
        def read_range(self, info: ObjectInfo, start: int, end: int) -> bytes:
            if self.read_bytes > 8 + 1000:
                raise Unavailable("away")
            return super().read_range(info, start, end)

    stores = GoingAway(parquet_of([{"text": "a" * 100}] * 1000, use_dictionary=False))
    with pytest.raises(Unavailable):
        list(row_records(stores, stores.info, RecordParser(Source(URI))))


def test_from_a_real_store(stores: Stores, folder: StoreUri, parquet_of: Written) -> None:
    uri = folder.child("train.parquet")
    stores.put(uri, parquet_of([{"text": "a"}, {"text": "b"}]))
    records = row_records(stores, stores.head(uri), RecordParser(Source(uri)))
    assert [record.text for record in records if isinstance(record, Passage)] == ["a", "b"]


@pytest.mark.parametrize(
    ("records", "sentence"),
    [
        pytest.param([{"txt": "a"}], 'columns: field "text" is missing (found "txt")', id="missing"),
        pytest.param(
            [{"text": 7}],
            'columns: "text" must hold nothing but text (found "text", of which text: none)',
            id="numbers",
        ),
        pytest.param(
            [{"text": {"en": "a"}}],
            'columns: "text" must hold nothing but text (found "en", of which text: "en")',
            id="nested",
        ),
        pytest.param(
            [{"text": "a", "messages": CHAT}], "columns: one record has the fields of 2 kinds", id="two kinds"
        ),
        pytest.param(
            [{"messages": [{"from": "human", "value": "a"}]}],
            'columns: "messages" must hold lists of role and content, both text (found "from", "value", of which',
            id="messages of others",
        ),
        pytest.param(
            [{"messages": "a"}], 'columns: "messages" must hold lists of role and content', id="messages are text"
        ),
    ],
)
def test_columns_that_cannot_be_trained_on_are_named(
    parquet_of: Written, records: list[dict[str, Any]], sentence: str
) -> None:
    for look in (check, read):
        with pytest.raises(DatasetBroken) as caught:
            look(parquet_of(records))
        assert str(caught.value).startswith(f"dataset s3://b/train.parquet, {sentence}")


@pytest.mark.parametrize(
    ("records", "sentence"),
    [
        pytest.param([{"text": "a"}, {"text": None}], 'field "text" is null', id="null"),
        pytest.param([{"messages": CHAT}, {"messages": CHAT[:1]}], "the assistant says nothing", id="no assistant"),
        pytest.param([{"messages": CHAT}, {"messages": []}], 'field "messages" is empty', id="empty"),
    ],
)
def test_a_row_that_is_wrong_is_named(parquet_of: Written, records: list[dict[str, Any]], sentence: str) -> None:
    with pytest.raises(DatasetBroken) as caught:
        read(parquet_of(records))
    assert str(caught.value).startswith(f"dataset s3://b/train.parquet, row 2: {sentence}")


def test_text_that_is_no_utf8_is_named_by_row(parquet_of: Written) -> None:
    texts = pa.array([b"a", b"b", b"c\xff"], pa.binary()).view(pa.string())
    with pytest.raises(DatasetBroken, match=r"row 3: byte 1 \(0xff\) is no valid UTF-8"):
        read(parquet_of(pa.table({"text": texts})))


def test_no_rows_are_an_empty_dataset(parquet_of: Written) -> None:
    for look in (check, read):
        with pytest.raises(DatasetEmpty, match=r"s3://b/train\.parquet has no rows"):
            look(parquet_of(pa.table({"text": pa.array([], pa.string())})))


def test_a_file_that_was_not_uploaded_whole_is_refused(parquet_of: Written) -> None:
    content = parquet_of([{"text": "a"}] * 10)
    for cut in (6, len(content) // 2, len(content) - 1):
        with pytest.raises(DatasetBroken, match="does not end as Parquet does"):
            check(content[:cut])


def test_a_file_whose_middle_is_missing_is_refused(parquet_of: Written) -> None:
    content = parquet_of([{"text": f"{number}" * 20} for number in range(100)], compression="none")
    with pytest.raises(DatasetBroken, match="data beyond the end of the file"):
        check(content[:4] + content[1000:])


def test_an_encrypted_file_is_named() -> None:
    with pytest.raises(DatasetBroken, match="an encrypted Parquet file"):
        check(b"PARE" + bytes(100) + b"PARE")


@pytest.mark.parametrize("length", [2**31, 1000, 101])
def test_a_footer_larger_than_its_file_is_refused(length: int) -> None:
    with pytest.raises(DatasetBroken, match=f"said to have {length} bytes, in a file of 112"):
        check(b"PAR1" + bytes(100) + length.to_bytes(4, "little") + b"PAR1")


@pytest.mark.parametrize("fields", [{"text": "a"}, {"messages": CHAT}], ids=["text", "messages"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_became_of_a_footer_there_is_a_sentence(
    parquet_of: Written, fields: dict[str, Any], data: st.DataObject
) -> None:
    content = bytearray(parquet_of([fields] * 5))
    length = int.from_bytes(content[-8:-4], "little")
    for _ in range(data.draw(st.integers(1, 3))):
        content[-8 - data.draw(st.integers(1, length))] = data.draw(st.integers(0, 255))
    try:
        check(bytes(content))
    except (DatasetBroken, DatasetEmpty) as error:
        said = str(error)
        assert said.startswith("dataset s3://b/train.parquet")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_data_with_checksums_are_read_as_they_were_written_or_refused(parquet_of: Written, data: st.DataObject) -> None:
    texts = [f"document {number}" for number in range(50)]
    content = bytearray(parquet_of([{"text": text} for text in texts], compression="none", write_page_checksum=True))
    length = int.from_bytes(content[-8:-4], "little")
    content[data.draw(st.integers(4, len(content) - 9 - length))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = read(bytes(content))
    except DatasetBroken as error:
        said = str(error)
        assert said.startswith("dataset s3://b/train.parquet")
    else:
        assert found == [Passage(text, ends_document=True) for text in texts]


def test_a_page_that_is_overlooked_is_missed(parquet_of: Written) -> None:
    content = bytearray(parquet_of([{"text": "a"}] * 10, compression="none", use_dictionary=False))
    content[5] ^= 2  # the type of the first page: pyarrow passes over what it does not know
    with pytest.raises(DatasetBroken, match="has 0 rows, though its footer tells of 10"):
        read(bytes(content))


def test_the_footer_is_what_pyarrow_says_it_is(parquet_of: Written) -> None:
    records = [{"messages": CHAT, "id": number, "tags": {"a": True, "b": [0.5]}} for number in range(100)]
    content = parquet_of(records, row_group_size=7)
    theirs = pq.ParquetFile(io.BytesIO(content))
    stores = Bytes(content)
    ours = read_footer(stores, stores.info)
    assert ours.rows == theirs.metadata.num_rows
    assert list(ours.columns) == theirs.schema_arrow.names
    groups = [theirs.metadata.row_group(index) for index in range(theirs.num_row_groups)]
    chunks = [group.column(index) for group in groups for index in range(group.num_columns)]
    assert sum(ours.uncompressed_bytes.values()) == sum(chunk.total_uncompressed_size for chunk in chunks)
