from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure_api.uri import parse_uri
from perdure_data.datasets import DatasetBroken, Passage
from perdure_data.datasets.extract import Extract
from perdure_data.datasets.text import PASSAGE_CHARACTERS, text_passages

URI = parse_uri("s3://b/train.txt")


def read(content: bytes, chunk_bytes: int = 7) -> list[Passage]:
    return list(text_passages(Extract(URI, chunks(content, chunk_bytes))))


def chunks(content: bytes, chunk_bytes: int) -> Iterable[bytes]:
    return (content[start : start + chunk_bytes] for start in range(0, len(content), chunk_bytes))


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff")), st.integers(1, 50))
def test_plain_text_comes_out_as_it_went_in(text: str, chunk_bytes: int) -> None:
    found = read(text.encode(), chunk_bytes)
    assert "".join(passage.text for passage in found) == text


@given(st.binary(), st.integers(1, 50))
def test_any_bytes_are_text_or_refused_with_a_sentence(content: bytes, chunk_bytes: int) -> None:
    try:
        read(content, chunk_bytes)
    except DatasetBroken as error:
        said = str(error)
        assert said.startswith("dataset s3://b/train.txt")


def test_long_plain_text_comes_in_passages_that_end_with_a_line() -> None:
    text = "".join(f"line {number}\n" for number in range(20_000))
    found = read(text.encode(), 99_999)
    assert "".join(passage.text for passage in found) == text
    assert max(len(passage.text) for passage in found) <= PASSAGE_CHARACTERS
    assert all(passage.text.endswith("\n") for passage in found)
    assert [passage.ends_document for passage in found] == [False] * (len(found) - 1) + [True]


def test_each_passage_knows_its_file() -> None:
    found = read(b"word " * PASSAGE_CHARACTERS, 99_999)
    assert len(found) > 2
    assert {passage.where for passage in found} == {"dataset s3://b/train.txt"}


def test_text_without_a_single_space_is_cut_all_the_same() -> None:
    text = "ä" * (3 * PASSAGE_CHARACTERS + 1)
    assert "".join(passage.text for passage in read(text.encode(), 9_999)) == text


def test_a_byte_order_mark_is_no_text() -> None:
    assert [passage.text for passage in read(b"\xef\xbb\xbfhello", 999)] == ["hello"]


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
        read(content, chunk_bytes)
    assert str(caught.value).startswith(f"dataset s3://b/train.txt, {sentence}")


def test_inside_a_text_a_cut_character_is_no_error() -> None:
    content = ("ä" * 100).encode()
    found = list(text_passages(Extract(URI, chunks(content[11:-11], 5), 11, at_end=False)))
    assert "".join(passage.text for passage in found) == "ä" * 88
