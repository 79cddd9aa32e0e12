from __future__ import annotations

import pytest

from perdure_api.uri import StoreUri, UriError, parse_uri


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://b/k", StoreUri("s3", "b", "k")),
        ("gs://b/a/b/", StoreUri("gs", "b", "a/b/")),
        ("az://c/x y", StoreUri("az", "c", "x y")),
        ("s3://b/a%20b", StoreUri("s3", "b", "a b")),
        ("file:///data/x", StoreUri("file", "", "/data/x")),
    ],
)
def test_a_uri_is_read(text: str, expected: StoreUri) -> None:
    assert parse_uri(text) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ftp://b/k", "use s3://"),
        ("/data/x", "use s3://"),
        ("s3:///k", "names no bucket"),
        ("s3://b", "nothing in it"),
        ("s3://b/", "nothing in it"),
        ("file://host/x", "no absolute path"),
        ("file:/x", "use s3://"),
        ("s3://b//", "nothing in it"),
        ("s3://b/%2F", "nothing in it"),
        ("s3://?a/b", r"holds '\?'"),
        ("s3://b/#x", "write %23 for it"),
        ("s3://b/data#1.jsonl", "write %23 for it"),
        ("s3://b/a?versionId=1", "write %3F for it"),
        ("s3://b/a\nb", "write %0A for it"),
        ("s3://[b/x", r'names a bucket "\[b"'),
        ("s3://b:9000/x", 'names a bucket "b:9000"'),
        ("s3://b//x", "leave that out"),
        ("s3://b/a//", "leave that out"),
        ("s3://b/a/../c", "leave that out"),
        ("s3://b/..", "leave that out"),
        ("s3://b/%2E%2E/c", "leave that out"),
        ("file:////x", "leave that out"),
    ],
)
def test_a_wrong_uri_says_what_to_write(text: str, says: str) -> None:
    with pytest.raises(UriError, match=says):
        parse_uri(text)


@pytest.mark.parametrize("text", ["s3://b/k", "gs://b/a/b", "file:///data/x", "file:///", "s3://b/50%25 a%23%3F[1]/"])
def test_a_uri_is_written_as_it_was_read(text: str) -> None:
    assert str(parse_uri(text)) == text


def test_whatever_an_object_is_called_its_uri_leads_to_it() -> None:
    uri = StoreUri("s3", "b", "what? #1, 100 %\n")
    assert parse_uri(str(uri)) == uri


def test_a_child_is_below() -> None:
    assert str(parse_uri("s3://b/out/").child("runs", "u")) == "s3://b/out/runs/u"


def test_a_parent_is_above() -> None:
    uri = parse_uri("s3://b/out/runs")
    assert uri.child("u").parent == uri
