"""Texts in the store, one a line: looked at once, then read in parts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from perdure_api.inference import TextFormat, TextSource
from perdure_api.uri import StoreUri, parse_uri
from perdure_data import texts
from perdure_data.errors import NotFound, Unavailable
from perdure_data.stores import Stores
from perdure_data.texts import TextsError, read_part, survey

TEXTS = [f"text {number} of this file, größer 大" for number in range(25)]


def put(stores: Stores, place: StoreUri, content: str | bytes) -> None:
    stores.put(place, content if isinstance(content, bytes) else content.encode())


def source(place: StoreUri, **more: Any) -> TextSource:
    return TextSource(uri=str(place), **more)


def read(stores: Stores, given: TextSource, rows: int) -> list[list[str]]:
    return [read_part(stores, part) for part in survey(stores, given, rows)]


def test_parts_hold_all_texts_in_their_order(stores: Stores, folder: StoreUri) -> None:
    place = folder.child("a.txt")
    put(stores, place, "\n".join([*TEXTS[:7], "", "  ", *TEXTS[7:]]))

    found = read(stores, source(place), 10)

    assert [text for part in found for text in part] == TEXTS
    assert [len(part) for part in found] == [10, 10, 5]


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffa\nb\n".encode(),
        b"a\r\nb\r\n",
        b"a\n\n\nb",
        b"a\nb\n\n",
    ],
    ids=["a byte order mark", "lines of Windows", "blank lines", "a blank end"],
)
def test_what_editors_add_is_no_text(stores: Stores, folder: StoreUri, content: bytes) -> None:
    put(stores, folder.child("a.txt"), content)

    assert read(stores, source(folder.child("a.txt")), 1) == [["a"], ["b"]]


def test_json_lines_name_the_field(stores: Stores, folder: StoreUri) -> None:
    put(stores, folder.child("a.jsonl"), "".join(json.dumps({"id": 1, "body": text}) + "\n" for text in TEXTS))

    assert read(stores, source(folder.child("a.jsonl"), field="body"), 100) == [TEXTS]


def test_a_folder_is_its_files_in_the_order_of_their_names(stores: Stores, folder: StoreUri) -> None:
    put(stores, folder.child("b.jsonl"), '{"text": "2"}\n')
    put(stores, folder.child("a.txt"), "0\n1\n")
    put(stores, folder.child("README.md"), "no text of it")

    assert read(stores, source(folder), 10) == [["0", "1"], ["2"]]


def test_a_format_that_is_given_counts_more_than_a_name(stores: Stores, folder: StoreUri) -> None:
    put(stores, folder.child("dump"), '{"text": "a"}\n')

    assert read(stores, source(folder.child("dump"), format=TextFormat.JSONL), 10) == [["a"]]
    assert read(stores, source(folder.child("dump"), format=TextFormat.TEXT), 10) == [['{"text": "a"}']]


def test_a_file_over_many_chunks_is_divided_where_lines_end(
    stores: Stores, folder: StoreUri, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "READ_CHUNK_BYTES", 64)
    place = folder.child("a.txt")
    put(stores, place, "\n".join(TEXTS * 4))

    assert [text for part in read(stores, source(place), 7) for text in part] == TEXTS * 4


def test_a_part_ends_before_it_is_too_large_for_memory(
    stores: Stores, folder: StoreUri, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "_PART_BYTES", 100)
    place = folder.child("a.txt")
    put(stores, place, "\n".join(TEXTS))

    found = survey(stores, source(place), 1000)

    assert len(found) > 5
    assert all(part.end - part.start < 200 for part in found)
    assert [text for part in found for text in read_part(stores, part)] == TEXTS


def test_there_are_never_more_parts_than_a_history_holds(
    stores: Stores, folder: StoreUri, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "PARTS_LIMIT", 8)
    for name in ("a.txt", "b.txt"):
        put(stores, folder.child(name), "\n".join(f"{name} {text}" for text in TEXTS * 4))

    found = survey(stores, source(folder), 1)

    assert len(found) <= 9
    assert sum(part.rows for part in found) == 200
    assert [text for part in found for text in read_part(stores, part)] == [
        f"{name} {text}" for name in ("a.txt", "b.txt") for text in TEXTS * 4
    ]


def test_a_file_that_changed_since_it_was_looked_at_is_not_read(stores: Stores, folder: StoreUri) -> None:
    place = folder.child("a.txt")
    put(stores, place, "a\nb\n")
    (part,) = survey(stores, source(place), 10)
    put(stores, place, "c\nd\n")

    with pytest.raises(Unavailable):
        read_part(stores, part)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", "a\nb\0c\n", "a.txt, line 2: the text has a NUL byte at character 1, so it is binary data"),
        ("a.txt", b"a\n\xff\n", "a.txt, line 2: byte 1 of the line is no UTF-8"),
        ("a.jsonl", '{"text": "a"}\n{"text": " "}\n', "a.jsonl, line 2: the text is empty; leave it out"),
        ("a.jsonl", '["a"]\n', "line 1: found a list; expected an object such as"),
        ("a.jsonl", '{"text": 1}\n', 'line 1: field "text" is no text (found "text"); set source.field'),
        ("a.jsonl", "[\n", "line 1: found no JSON"),
        ("a.txt", "x" * 1_000_001, "line 1: the text has 1000001 characters; expected at most 1000000"),
        ("a.txt", "\n\n", "found no texts; expected one a line"),
        ("a.txt.gz", b"\x1f\x8b", "found a file that is compressed or Parquet; expected lines as they are"),
        ("a.parquet", b"PAR1", "found a file that is compressed or Parquet; expected lines as they are"),
    ],
)
def test_what_is_no_text_is_told_with_its_place(
    stores: Stores, folder: StoreUri, name: str, content: str | bytes, says: str
) -> None:
    put(stores, folder.child(name), content)

    with pytest.raises(TextsError) as raised:
        survey(stores, source(folder.child(name)), 10)

    assert says in str(raised.value)


def test_a_folder_without_texts_is_told(stores: Stores, folder: StoreUri) -> None:
    put(stores, folder.child("a.pdf"), "a")

    with pytest.raises(TextsError, match=r"found 1 files, none of them \.jsonl, \.ndjson, \.txt, \.text"):
        survey(stores, source(folder), 10)


def test_a_file_that_is_not_there_is_not_found(stores: Stores, folder: StoreUri) -> None:
    put(stores, folder.child("b.txt"), "a")

    with pytest.raises(NotFound):
        survey(stores, source(folder.child("a.txt")), 10)


def test_a_line_without_an_end_is_no_line(stores: Stores, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(texts, "_LINE_LIMIT_BYTES", 1000)
    place = parse_uri(f"file://{tmp_path}/a.txt")
    put(stores, place, "x" * 2000)

    with pytest.raises(TextsError, match="byte 0: found no end of line within 1000 bytes"):
        survey(stores, source(place), 10)
