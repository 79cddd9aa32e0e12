from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from perdure_api.uri import StoreUri, parse_uri
from perdure_data.errors import (
    AccessDenied,
    AlreadyExists,
    BucketNotFound,
    NoCredentials,
    NotFound,
    StoreError,
    TooLarge,
    Unavailable,
)
from perdure_data.stores import Stores


def test_what_was_put_is_read_back(stores: Stores, folder: StoreUri) -> None:
    uri = folder.child("a b/ü%20#1.bin")
    stores.put(uri, b"hello")
    assert stores.read(uri, limit_bytes=5) == b"hello"
    assert stores.head(uri).size_bytes == 5


async def test_the_async_forms_say_the_same(stores: Stores, folder: StoreUri) -> None:
    uri = folder.child("x")
    await stores.put_if_absent_async(uri, b"hello")
    assert await stores.read_async(uri, limit_bytes=5) == b"hello"
    assert [info.uri for info in await stores.list_objects_async(folder)] == [uri]
    with pytest.raises(AlreadyExists):
        await stores.put_if_absent_async(uri, b"other")


def test_a_read_is_bounded(stores: Stores, folder: StoreUri) -> None:
    stores.put(folder.child("x"), b"hello")
    with pytest.raises(TooLarge, match="has 5 bytes; at most 4"):
        stores.read(folder.child("x"), limit_bytes=4)


def test_a_range_ends_where_the_object_does(stores: Stores, folder: StoreUri) -> None:
    stores.put(folder.child("x"), b"hello")
    info = stores.head(folder.child("x"))
    assert [stores.read_range(info, start, end) for start, end in ((1, 3), (3, 99), (5, 9))] == [b"el", b"lo", b""]


def test_a_stream_gives_every_byte_once(stores: Stores, folder: StoreUri) -> None:
    content = os.urandom(10_000)
    stores.put(folder.child("x"), content)
    chunks = list(stores.stream(stores.head(folder.child("x")), chunk_bytes=999))
    assert b"".join(chunks) == content
    assert max(map(len, chunks)) == 999


def test_an_object_that_changes_while_it_is_read_is_noticed(stores: Stores, folder: StoreUri) -> None:
    stores.put(folder.child("x"), b"old content")
    stream = stores.stream(stores.head(folder.child("x")), chunk_bytes=4)
    next(stream)
    stores.put(folder.child("x"), b"NEW CONTENT!")
    with pytest.raises(Unavailable, match="changed while it was read"):
        next(stream)


def test_of_two_conditional_writes_one_wins(stores: Stores, folder: StoreUri) -> None:
    stores.put_if_absent(folder.child("x"), b"first")
    with pytest.raises(AlreadyExists):
        stores.put_if_absent(folder.child("x"), b"second")
    assert stores.read(folder.child("x"), limit_bytes=9) == b"first"


def test_lists_a_folder_and_nothing_beside_it(stores: Stores, folder: StoreUri) -> None:
    for name in ("run/b", "run/a/deep", "runner/c"):
        stores.put(folder.child(name), b"")
    assert [info.uri for info in stores.list_objects(folder.child("run"))] == [
        folder.child("run/a/deep"),
        folder.child("run/b"),
    ]


def test_children_are_what_is_right_in_a_folder(stores: Stores, folder: StoreUri) -> None:
    for name in ("a/deep", "b"):
        stores.put(folder.child(name), b"")
    files, folders = stores.children(folder)
    assert [info.uri for info in files] == [folder.child("b")]
    assert folders == [folder.child("a")]


def test_a_folder_that_is_not_there_lists_as_empty(stores: Stores, folder: StoreUri) -> None:
    stores.put(folder.child("other/x"), b"")
    assert stores.list_objects(folder.child("none")) == []


def test_copies_and_deletes(stores: Stores, folder: StoreUri) -> None:
    stores.put(folder.child("x"), b"hello")
    stores.copy(folder.child("x"), folder.child("y"))
    stores.delete(folder.child("x"))
    stores.delete(folder.child("x"))
    assert [info.uri for info in stores.list_objects(folder)] == [folder.child("y")]


def test_downloads_whole_files(stores: Stores, folder: StoreUri, tmp_path: Path) -> None:
    stores.put(folder.child("x"), b"hello")
    stores.download(stores.head(folder.child("x")), tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == b"hello"
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"here"}


def test_says_what_was_not_found(stores: Stores, folder: StoreUri) -> None:
    stores.put(folder.child("x"), b"")
    for ask in (stores.head, lambda uri: stores.read(uri, limit_bytes=1)):
        with pytest.raises(NotFound, match=f"{folder}/none was not found; upload it or correct the URI") as caught:
            ask(folder.child("none"))
        assert type(caught.value) is NotFound


@pytest.mark.parametrize("ask", ["head", "read", "list_objects", "children"])
def test_a_missing_bucket_is_told_from_a_missing_object(stores: Stores, s3_environment: Any, ask: str) -> None:
    options: dict[str, Any] = {"limit_bytes": 1} if ask == "read" else {}
    with pytest.raises(BucketNotFound, match="there is no bucket no-such-bucket"):
        getattr(stores, ask)(parse_uri("s3://no-such-bucket/x"), **options)


@pytest.mark.parametrize(
    ("name", "value", "because"),
    [
        ("AWS_SECRET_ACCESS_KEY", "wrong", "the secret key is not the one of the access key"),
        ("AWS_ACCESS_KEY_ID", "nobody", "the store does not know the access key"),
    ],
)
def test_wrong_credentials_are_named(
    stores: Stores, s3_folder: str, monkeypatch: pytest.MonkeyPatch, name: str, value: str, because: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(AccessDenied, match=because):
        stores.head(parse_uri(f"{s3_folder}/x"))


def test_no_credentials_are_named(stores: Stores, s3_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(NoCredentials, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        stores.head(parse_uri(f"{s3_folder}/x"))


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_store_with_troubles_of_its_own_is_unavailable(stores: Stores, broken_store: Any, status: int) -> None:
    broken_store.status = status
    with pytest.raises(Unavailable, match=f"the store answers {status}"):
        stores.head(parse_uri("s3://somewhere/x"))


def test_a_store_that_is_away_is_unavailable(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "something")
        with pytest.raises(Unavailable, match="s3://somewhere/x: the store cannot be reached"):
            stores.head(parse_uri("s3://somewhere/x"))


def test_a_bad_request_is_no_reason_to_wait(stores: Stores, broken_store: Any) -> None:
    broken_store.status = 400
    with pytest.raises(StoreError, match="the store answers 400") as caught:
        stores.head(parse_uri("s3://somewhere/x"))
    assert not isinstance(caught.value, Unavailable)


def test_a_folder_on_a_file_system_is_no_object(stores: Stores, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="is a folder; give the URI of a file in it"):
        stores.head(parse_uri(f"file://{tmp_path}"))
