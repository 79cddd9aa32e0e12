from __future__ import annotations

import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure_api.spec import DatasetFormat
from perdure_api.uri import parse_uri
from perdure_data.datasets import DatasetBroken, Passage, Source
from perdure_data.datasets.passages import PASSAGE_CHARACTERS, Region, passages

JSONL = Source(parse_uri("s3://b/train.jsonl"), DatasetFormat.JSONL, "text")
TEXT = Source(parse_uri("s3://b/train.txt"), DatasetFormat.TEXT, "text")


def read(source: Source, content: bytes, chunk_bytes: int = 7) -> list[Passage]:
    return list(passages(source, chunks(content, chunk_bytes), Region(0, len(content), len(content))))


def chunks(content: bytes, chunk_bytes: int) -> Iterable[bytes]:
    return (content[start : start + chunk_bytes] for start in range(0, len(content), chunk_bytes))


def lines(*documents: object) -> bytes:
    return b"".join(json.dumps(document).encode() + b"\n" for document in documents)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))), st.integers(1, 50), st.data())
def test_every_document_comes_out_as_it_went_in(texts: list[str], chunk_bytes: int, draw: st.DataObject) -> None:
    ascii_only = draw.draw(st.booleans(), "written with escapes")
    content = b"\r\n".join(json.dumps({"text": text}, ensure_ascii=ascii_only).encode() for text in texts)
    assert [passage.text for passage in read(JSONL, content, chunk_bytes)] == texts


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff")), st.integers(1, 50))
def test_plain_text_comes_out_as_it_went_in(text: str, chunk_bytes: int) -> None:
    found = read(TEXT, text.encode(), chunk_bytes)
    assert "".join(passage.text for passage in found) == text


def test_long_plain_text_comes_in_passages_that_end_with_a_line() -> None:
    text = "".join(f"line {number}\n" for number in range(20_000))
    found = read(TEXT, text.encode(), 99_999)
    assert "".join(passage.text for passage in found) == text
    assert max(len(passage.text) for passage in found) <= PASSAGE_CHARACTERS
    assert all(passage.text.endswith("\n") for passage in found)
    assert [passage.ends_document for passage in found] == [False] * (len(found) - 1) + [True]


def test_text_without_a_single_space_is_cut_all_the_same() -> None:
    text = "ä" * (3 * PASSAGE_CHARACTERS + 1)
    assert "".join(passage.text for passage in read(TEXT, text.encode(), 9_999)) == text


@pytest.mark.parametrize("source", [JSONL, TEXT], ids=["jsonl", "text"])
def test_a_byte_order_mark_is_no_text(source: Source) -> None:
    content = b"\xef\xbb\xbf" + (lines({"text": "hello"}) if source is JSONL else b"hello")
    assert [passage.text for passage in read(source, content, 999)] == ["hello"]


def test_blank_lines_are_skipped_but_counted() -> None:
    with pytest.raises(DatasetBroken, match="line 4"):
        read(JSONL, b'\n  \n{"text": "a"}\nbroken\n')


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        pytest.param(
            {"txt": "a"},
            'field "text" is missing (found "txt"); set spec.dataset.textField or rename it',
            id="missing",
        ),
        pytest.param({}, 'field "text" is missing (found no fields)', id="no fields"),
        pytest.param({"text": 17}, 'field "text" is a number (17); it must be a string', id="number"),
        pytest.param({"text": None}, 'field "text" is null (null); it must be a string', id="null"),
        pytest.param({"text": ["a"]}, 'field "text" is a list (["a"]); it must be a string', id="list"),
        pytest.param({"text": "\ud800"}, 'field "text" holds half a surrogate pair', id="surrogate"),
        pytest.param(["a"], 'a list (["a"]); each line must be one JSON object', id="no object"),
    ],
)
def test_a_line_of_another_shape_is_named(line: object, sentence: str) -> None:
    with pytest.raises(DatasetBroken) as caught:
        read(JSONL, lines({"text": "first"}, line, {"text": "last"}))
    assert str(caught.value).startswith(f"dataset s3://b/train.jsonl, line 2: {sentence}")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        pytest.param(b'{"text": "cut', "no JSON (Unterminated string", id="cut"),
        pytest.param(b'{"text": "a\xff"}', "byte 11 (0xff) is no valid UTF-8", id="utf-8"),
        pytest.param(b"\0\0\0", "a NUL byte, so this is binary data", id="binary"),
        pytest.param(b"[" * 100_000, "no JSON (", id="deep"),
    ],
)
def test_a_line_that_is_no_json_is_named(line: bytes, sentence: str) -> None:
    with pytest.raises(DatasetBroken) as caught:
        read(JSONL, lines({"text": "first"}) + line + b"\n" + lines({"text": "last"}), 999)
    assert str(caught.value).startswith(f"dataset s3://b/train.jsonl, line 2: {sentence}")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("chunk_bytes", [1, 3, 1000])
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        pytest.param("ä\nö".encode() + b"\xff", "line 2: byte 5 (0xff) is no valid UTF-8", id="stray byte"),
        pytest.param(b"a\nb\nc\0", "line 3: a NUL byte", id="binary"),
        pytest.param("a\nä".encode()[:-1], "line 2: byte 2 (0xc3) is no valid UTF-8", id="cut character"),
    ],
)
def test_text_that_is_none_is_named_by_line(content: bytes, sentence: str, chunk_bytes: int) -> None:
    with pytest.raises(DatasetBroken) as caught:
        read(TEXT, content, chunk_bytes)
    assert str(caught.value).startswith(f"dataset s3://b/train.txt, {sentence}")


@pytest.mark.parametrize("source", [JSONL, TEXT], ids=["jsonl", "text"])
@pytest.mark.parametrize(
    ("head", "what"),
    [(b"\x1f\x8b", "gzip"), (b"PAR1", "Parquet"), (b"\xff\xfea\0", "UTF-16")],
    ids=["gzip", "parquet", "utf-16"],
)
def test_well_known_other_formats_are_named(source: Source, head: bytes, what: str) -> None:
    with pytest.raises(DatasetBroken, match=what):
        read(source, head + b"\0\0", 999)


def test_inside_a_file_only_whole_lines_count_and_errors_name_a_byte() -> None:
    content = lines(*({"text": f"document {number}"} for number in range(100)))
    region = Region(10, len(content) - 10, len(content))
    found = list(passages(JSONL, chunks(content[10:-10], 13), region))
    assert [passage.text for passage in found] == [f"document {number}" for number in range(1, 99)]
    broken = content.replace(b"document 50", b"document\x0050")
    with pytest.raises(DatasetBroken, match=f"byte {broken.index(b'document' + bytes(1)) - 10}: a NUL byte"):
        list(passages(JSONL, chunks(broken[10:-10], 13), region))


def test_inside_a_text_a_cut_character_is_no_error() -> None:
    content = ("ä" * 100).encode()
    found = list(passages(TEXT, chunks(content[11:-11], 5), Region(11, 189, 200)))
    assert "".join(passage.text for passage in found) == "ä" * 88
