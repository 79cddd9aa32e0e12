from __future__ import annotations

import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure_api.uri import parse_uri
from perdure_data.datasets import DatasetBroken, Passage, Record, Source
from perdure_data.datasets.extract import Extract
from perdure_data.datasets.fields import RecordParser
from perdure_data.datasets.jsonl import LINE_LIMIT_BYTES, line_records

URI = parse_uri("s3://b/train.jsonl")


def read(content: bytes, chunk_bytes: int = 7, start: int = 0, *, at_end: bool = True) -> list[Record]:
    extract = Extract(URI, chunks(content, chunk_bytes), start, at_end)
    return list(line_records(extract, RecordParser(Source(URI))))


def texts(records: Iterable[Record]) -> list[str]:
    return [record.text for record in records if isinstance(record, Passage)]


def chunks(content: bytes, chunk_bytes: int) -> Iterable[bytes]:
    return (content[start : start + chunk_bytes] for start in range(0, len(content), chunk_bytes))


def lines(*documents: object) -> bytes:
    return b"".join(json.dumps(document).encode() + b"\n" for document in documents)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))), st.integers(1, 50), st.data())
def test_every_document_comes_out_as_it_went_in(documents: list[str], chunk_bytes: int, draw: st.DataObject) -> None:
    ascii_only = draw.draw(st.booleans(), "written with escapes")
    content = b"\r\n".join(json.dumps({"text": text}, ensure_ascii=ascii_only).encode() for text in documents)
    assert read(content, chunk_bytes) == [Passage(text, ends_document=True) for text in documents]


@given(st.binary() | st.lists(st.sampled_from([b'{"text": "a"}', b'{"messages": []}', b"\n", b"\xff"])).map(b"".join))
def test_any_bytes_are_records_or_refused_with_a_sentence(content: bytes) -> None:
    try:
        read(content)
    except DatasetBroken as error:
        said = str(error)
        assert said.startswith("dataset s3://b/train.jsonl")


def test_a_megabyte_on_one_line_is_one_record() -> None:
    text = "ä" * 2**20
    assert texts(read(lines({"text": text}, {"text": "b"}), 2**16)) == [text, "b"]


def test_a_line_that_never_ends_is_refused_before_it_fills_the_memory() -> None:
    asked = 0

    def endless() -> Iterable[bytes]:
        nonlocal asked
        while True:
            asked += 1
            yield b" " * 2**20

    with pytest.raises(DatasetBroken, match="line 1: no end of line within 16777216 bytes"):
        list(line_records(Extract(URI, endless()), RecordParser(Source(URI))))
    assert asked <= LINE_LIMIT_BYTES / 2**20 + 1


def test_a_byte_order_mark_is_no_text() -> None:
    assert texts(read(b"\xef\xbb\xbf" + lines({"text": "hello"}), 999)) == ["hello"]


def test_blank_lines_are_skipped_but_counted() -> None:
    with pytest.raises(DatasetBroken, match="line 4"):
        read(b'\n  \n{"text": "a"}\nbroken\n')


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        pytest.param(b'{"text": "cut', "no JSON (Unterminated string", id="cut"),
        pytest.param(b'{"text": "a\xff"}', "byte 11 (0xff) is no valid UTF-8", id="utf-8"),
        pytest.param(b"\0\0\0", "a NUL byte, so this is binary data", id="binary"),
        pytest.param(b"[" * 100_000, "no JSON (", id="deep"),
        pytest.param(b"[\n{}\n]", "the beginning of JSON over several lines (jq -c rewrites it), found [", id="array"),
        pytest.param(b'["a"]', 'a list (["a"]); each line must be one JSON object', id="no object"),
    ],
)
def test_a_line_that_is_no_record_is_named(line: bytes, sentence: str) -> None:
    with pytest.raises(DatasetBroken) as caught:
        read(lines({"text": "first"}) + line + b"\n" + lines({"text": "last"}), 999)
    assert str(caught.value).startswith(f"dataset s3://b/train.jsonl, line 2: {sentence}")
    assert len(str(caught.value)) < 300


def test_inside_a_file_only_whole_lines_count_and_errors_name_a_byte() -> None:
    content = lines(*({"text": f"document {number}"} for number in range(100)))
    found = read(content[10:-10], 13, 10, at_end=False)
    assert texts(found) == [f"document {number}" for number in range(1, 99)]
    broken = content.replace(b"document 50", b"document\x0050")
    with pytest.raises(DatasetBroken, match=f"byte {broken.index(b'document' + bytes(1)) - 10}: a NUL byte"):
        read(broken[10:-10], 13, 10, at_end=False)
