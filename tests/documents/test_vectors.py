"""Vector stores: what is put in is found again, replaced exactly, and gone when it is to be."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from perdure_api.uri import parse_uri
from perdure_data.stores import Stores
from perdure_documents.chunks import Chunk
from perdure_documents.vectors import Kept, StoreMismatch, VectorStore, open_vectors
from perdure_documents.vectors.contract import Encoder

ENCODER = Encoder("file:///models/mini", "sha256:1", 3)
QUOTED = "s3://b/it's; DROP TABLE chunks --.md"

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:lance.*")


def kept(document: str, *texts: str, revision: str = "r1") -> list[Kept]:
    """Chunks whose vectors point a bit further from the first axis each."""
    return [
        Kept(document, revision, n, Chunk(text, n * 10, n * 10 + len(text), None, ("Head",)), [1.0, n / 10, 0.0])
        for n, text in enumerate(texts)
    ]


@pytest.fixture(params=["file", "s3", "postgresql"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty store: LanceDB on a disk and in a real object store, and a real PostgreSQL."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("pgvector"))
    if request.param == "file":
        return tmp_path.as_uri()
    uri = f"{request.getfixturevalue('s3_folder')}/vectors"
    Stores().put(parse_uri(uri).child("bucket"), b"is there now")
    return uri


@pytest.fixture
def again(uri: str) -> Callable[[], VectorStore]:
    """Opens the same store each time."""
    return lambda: open_vectors(uri)


def texts(store: VectorStore) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in sorted(store.nearest([1.0, 0.0, 0.0], 100), key=lambda each: (each.document, each.ordinal)):
        found.setdefault(each.document, []).append(each.chunk.text)
    return found


def test_chunks_are_found_by_their_vectors_with_all_that_was_said_of_them(again: Callable[[], VectorStore]) -> None:
    assert again().encoder() is None
    assert again().nearest([1.0], 3) == []
    again().replace(kept("s3://b/a", "zero", "one", "two"), ["s3://b/a"], ENCODER)

    found = again().nearest([0.0, 1.0, 0.0], 2)

    assert [(each.document, each.ordinal, each.chunk) for each in found] == [
        ("s3://b/a", 2, Chunk("two", 20, 23, None, ("Head",))),
        ("s3://b/a", 1, Chunk("one", 10, 13, None, ("Head",))),
    ]
    assert found[0].score == pytest.approx(0.2 / math.hypot(1, 0.2), abs=1e-6)
    assert again().encoder() == ENCODER


def test_a_changed_document_has_exactly_its_chunks_replaced(again: Callable[[], VectorStore]) -> None:
    both = ["s3://b/a", QUOTED]
    again().replace([*kept(both[0], "a0", "a1", "a2"), *kept(both[1], "b0")], both, ENCODER)

    again().replace(kept(QUOTED, "b0 new", "b1 new", revision="r2"), [QUOTED], ENCODER)
    again().replace(kept(both[0], "a0 new", revision="r2"), [both[0]], ENCODER)

    assert texts(again()) == {both[0]: ["a0 new"], QUOTED: ["b0 new", "b1 new"]}
    assert again().revisions([*both, "s3://b/none"]) == dict.fromkeys(both, "r2")


def test_documents_are_removed_and_no_others(again: Callable[[], VectorStore]) -> None:
    documents = ["s3://b/docs/a", "s3://b/docs/b", "s3://b/docs-too/c", QUOTED]
    again().replace([each for document in documents for each in kept(document, "x", "y")], documents, ENCODER)

    assert again().documents_below("s3://b/docs/") == set(documents[:2])
    assert again().documents_below("s3://b/docs/a") == {documents[0]}
    again().remove([documents[0], QUOTED])
    again().tidy()

    assert set(texts(again())) == {documents[1], documents[2]}


def test_many_documents_are_asked_for_and_removed_at_once(uri: str) -> None:
    store = open_vectors(uri)
    documents = [f"s3://b/{number:04}" for number in range(1200)]
    store.replace([each for document in documents for each in kept(document, "x")], documents, ENCODER)

    assert len(store.revisions(documents)) == len(store.documents_below("s3://b")) == 1200
    store.remove(documents[:-1])
    assert store.documents_below("s3://b") == {documents[-1]}


def test_vectors_of_another_dimension_are_refused(uri: str) -> None:
    store = open_vectors(uri)
    store.replace(kept("s3://b/a", "x"), ["s3://b/a"], ENCODER)

    with pytest.raises(StoreMismatch) as put:
        store.replace(kept("s3://b/b", "x"), ["s3://b/b"], Encoder("file:///models/maxi", "sha256:2", 4))
    with pytest.raises(StoreMismatch) as asked:
        store.nearest([1.0, 0.0], 1)

    assert str(put.value) == (
        f"{uri} holds vectors of 3 numbers by file:///models/mini, and file:///models/maxi makes vectors "
        f"of 4; give that model, or another store"
    )
    assert "holds vectors of 3 numbers, and asked was one of 2" in str(asked.value)
    with pytest.raises(StoreMismatch, match="holds vectors of 3 numbers"):
        store.replace([], ["s3://b/a"], Encoder("file:///models/maxi", "sha256:2", 4))
    assert set(texts(store)) == {"s3://b/a"}


def test_vectors_of_another_model_are_refused_even_where_they_have_as_many_numbers(uri: str) -> None:
    store = open_vectors(uri)
    store.replace(kept("s3://b/a", "x"), ["s3://b/a"], ENCODER)

    with pytest.raises(StoreMismatch, match="is another model"):
        store.replace(kept("s3://b/a", "x"), ["s3://b/a"], Encoder("file:///models/mini", "sha256:9", 3))


def test_documents_without_chunks_are_gone_and_a_store_without_any_stays_empty(uri: str) -> None:
    store = open_vectors(uri)
    store.remove(["s3://b/a"])
    store.tidy()
    assert (store.revisions(["s3://b/a"]), store.documents_below("s3://b"), store.encoder()) == ({}, set(), None)
    store.replace([*kept("s3://b/a", "x"), *kept("s3://b/b", "y")], ["s3://b/a", "s3://b/b"], ENCODER)

    store.replace([], ["s3://b/a"], ENCODER)

    assert texts(store) == {"s3://b/b": ["y"]}


def test_what_is_below_a_folder_is_told_by_the_bytes_of_its_name(uri: str) -> None:
    names = ["s3://b/Ä", "s3://b/Ä/ü", "s3://b/Ä/%2F_", "s3://b/Ä-1", "s3://b/Ä0", "s3://b/a/Ä/x", "s3://b/Ä/deep/z"]
    store = open_vectors(uri)
    store.replace([each for name in names for each in kept(name, "x")], names, ENCODER)

    assert store.documents_below("s3://b/Ä") == {names[0], names[1], names[2], names[6]}


@pytest.mark.parametrize("uri", ["qdrant://host:6333/chunks", "mysql://host/db", "vectors", "s3://bucket"])
def test_other_kinds_of_stores_are_refused_in_one_sentence(uri: str) -> None:
    with pytest.raises(StoreMismatch, match=r"; (expected a folder for LanceDB at s3://|write s3://bucket/path)"):
        open_vectors(uri)
