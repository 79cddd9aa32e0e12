"""Vectors in a real PostgreSQL: whom it lets in, what becomes of two writers, and what is said when it does not go.

What every store does is in test_vectors.py, over this one too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest

from perdure_documents.chunks import Chunk
from perdure_documents.vectors import Kept, StoreDenied, StoreMismatch, VectorStoreError, open_vectors
from perdure_documents.vectors.contract import Encoder
from tests.conftest import _free_ports
from tests.postgresql import OWNER, PASSWORD, Database

if TYPE_CHECKING:
    import psycopg

ENCODER = Encoder("file:///models/mini", "sha256:1", 3)
DOCUMENT = "s3://b/a"


def kept(*texts: str, document: str = DOCUMENT, vector: tuple[float, ...] = (1.0, 0.0, 0.0)) -> list[Kept]:
    return [Kept(document, "r", n, Chunk(text, n, n + 1, n, ()), vector) for n, text in enumerate(texts)]


def texts(uri: str) -> list[str]:
    return sorted(found.chunk.text for found in open_vectors(uri).nearest([1.0, 0.0, 0.0], 100))


@pytest.fixture
def connect(pgvector: str, postgresql: Database) -> Callable[[], psycopg.Connection[Any]]:
    """A connection of somebody else's."""
    import psycopg  # noqa: PLC0415 - where it is installed

    address = {"host": "127.0.0.1", "port": postgresql.port, "user": OWNER, "password": PASSWORD}
    return lambda: psycopg.connect(**address, dbname="postgres", autocommit=True)  # type: ignore[arg-type]


Connect = Callable[[], "psycopg.Connection[Any]"]


@contextmanager
def a_writer_that_waits(uri: str, connect: Connect) -> Iterator[None]:
    """Somebody has begun to write to the table of a store and is at it until the end of the block."""
    with connect() as other, other.transaction():
        table = uri.rpartition("=")[2]
        other.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"perdure:{table}"])
        yield


def waiting(connect: Connect) -> int:
    """The process of the server that waits for its turn to write."""
    asked = "SELECT pid FROM pg_stat_activity WHERE application_name = 'perdure' AND wait_event = 'advisory'"
    deadline = monotonic() + 30
    with connect() as connection:
        while monotonic() < deadline:
            if row := connection.execute(asked).fetchone():
                return int(row[0])
    pytest.fail("nobody waits")


def test_a_replacement_that_breaks_off_leaves_what_was_there(pgvector: str) -> None:
    open_vectors(pgvector).replace(kept("old", "older"), [DOCUMENT], ENCODER)

    with pytest.raises(StoreMismatch):
        open_vectors(pgvector).replace([*kept("new"), *kept("x", vector=(1.0,))], [DOCUMENT], ENCODER)

    assert texts(pgvector) == ["old", "older"]


def test_a_server_that_goes_away_before_the_commit_leaves_what_was_there(pgvector: str, connect: Connect) -> None:
    open_vectors(pgvector).replace(kept("old"), [DOCUMENT], ENCODER)

    with ThreadPoolExecutor(1) as pool, a_writer_that_waits(pgvector, connect), connect() as admin:
        writing = pool.submit(open_vectors(pgvector).replace, kept("new"), [DOCUMENT], ENCODER)
        admin.execute("SELECT pg_terminate_backend(%s)", [waiting(connect)])
        with pytest.raises(VectorStoreError, match="terminating connection") as raised:
            writing.result()
    assert texts(pgvector) == ["old"]
    open_vectors(pgvector).replace(kept("new"), [DOCUMENT], ENCODER)

    assert type(raised.value) is VectorStoreError, "it is tried again"
    assert texts(pgvector) == ["new"]


def test_who_reads_waits_for_nobody_and_sees_no_half(pgvector: str, connect: Connect) -> None:
    open_vectors(pgvector).replace(kept("old", "older"), [DOCUMENT], ENCODER)

    with ThreadPoolExecutor(1) as pool:
        with a_writer_that_waits(pgvector, connect):
            writing = pool.submit(open_vectors(pgvector).replace, kept("new"), [DOCUMENT], ENCODER)
            waiting(connect)
            seen = texts(pgvector)
        writing.result()

    assert (seen, texts(pgvector)) == (["old", "older"], ["new"])


def test_of_writers_at_one_time_each_replaces_what_the_other_wrote(pgvector: str) -> None:
    wishes = [[f"{writer}-{n}" for n in range(20)] for writer in range(4)]

    with ThreadPoolExecutor(4) as pool:
        for writing in [
            pool.submit(open_vectors(pgvector).replace, kept(*wish), [DOCUMENT], ENCODER) for wish in wishes
        ]:
            writing.result()

    assert texts(pgvector) in [sorted(wish) for wish in wishes]


def test_what_postgresql_cannot_keep_of_a_text_moves_no_offset(pgvector: str) -> None:
    said = "a\0b\t\\.\n\\N ' \" {x} 😀"
    open_vectors(pgvector).replace(
        [Kept(DOCUMENT, "r", 0, Chunk(said, 0, len(said), None, ("a\0", "{,\"'")), [1.0, 0.0, 0.0])],
        [DOCUMENT], ENCODER,
    )  # fmt: skip

    (found,) = open_vectors(pgvector).nearest([1.0, 0.0, 0.0], 5)

    assert found.chunk == Chunk(said.replace("\0", "\ufffd"), 0, len(said), None, ("a\ufffd", "{,\"'"))


def test_vectors_come_back_as_near_as_they_are_and_one_without_direction_is_near_to_nothing(pgvector: str) -> None:
    chunks = [*kept("same", document="s3://b/1", vector=(1e-7, 0.1, 1 / 3))]
    chunks += [*kept("zero", document="s3://b/2", vector=(0.0, 0.0, 0.0))]
    open_vectors(pgvector).replace(chunks, ["s3://b/1", "s3://b/2"], ENCODER)

    found = open_vectors(pgvector).nearest([1e-7, 0.1, 1 / 3], 5)

    assert [(each.chunk.text, each.score) for each in found] == [("same", pytest.approx(1, abs=1e-6)), ("zero", 0.0)]


def test_a_table_in_a_schema_of_its_own_is_as_good(pgvector: str, connect: Connect) -> None:
    with connect() as connection:
        connection.execute("CREATE SCHEMA search")
    uri = pgvector.replace("table=", "table=search.")

    with pytest.raises(StoreMismatch, match=r'schema "none" does not exist; create the schema'):
        open_vectors(pgvector.replace("table=", "table=none.")).replace(kept("x"), [DOCUMENT], ENCODER)
    open_vectors(uri).replace(kept("there"), [DOCUMENT], ENCODER)

    assert (texts(uri), texts(pgvector)) == (["there"], [])


def test_a_table_that_is_a_word_of_sql_is_a_table(pgvector: str) -> None:
    uri = f"{pgvector.rpartition('=')[0]}=select"

    open_vectors(uri).replace(kept("there"), [DOCUMENT], ENCODER)

    assert texts(uri) == ["there"]


@pytest.mark.parametrize("comment", [None, "Ours.", "[1]", json.dumps({"perdure": {"format": 2}})])
def test_a_table_of_somebody_elses_is_left_alone(pgvector: str, connect: Connect, comment: str | None) -> None:
    table = pgvector.rpartition("=")[2]
    with connect() as connection:
        connection.execute(f"CREATE TABLE {table} (document text)".encode())
        connection.execute(f"INSERT INTO {table} VALUES ('{DOCUMENT}')".encode())
        if comment:
            connection.execute(f"COMMENT ON TABLE {table} IS '{comment}'".encode())

        for work in (
            lambda store: store.replace(kept("x"), [DOCUMENT], ENCODER),
            lambda store: store.remove([DOCUMENT]),
            lambda store: store.nearest([1.0], 1),
        ):
            with pytest.raises(StoreMismatch, match=r"a table that Perdure has not made, .*: give another table"):
                work(open_vectors(pgvector))
        assert connection.execute(f"SELECT * FROM {table}".encode()).fetchall() == [(DOCUMENT,)]


def test_another_server_is_never_shown_the_password(pgvector: str) -> None:
    for uri in (
        pgvector.replace("127.0.0.1", "db.example.com"),
        pgvector.replace("127.0.0.1", "localhost"),
        "postgresql://127.0.0.1/postgres",
    ):
        with pytest.raises(StoreDenied, match=r"password is for 127\.0\.0\.1:\d+ \(PGHOST, PGPORT\) and shown to no"):
            open_vectors(uri).encoder()


def test_without_credentials_it_is_said_where_they_belong(pgvector: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGHOST")

    with pytest.raises(StoreDenied, match=r"put PGHOST, PGUSER and PGPASSWORD into a Secret, .* gpuWorker\.postgresql"):
        open_vectors(pgvector).encoder()


def test_a_wrong_password_is_refused_at_once(pgvector: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "guessed")

    with pytest.raises(StoreDenied) as wrong:
        open_vectors(pgvector).encoder()
    monkeypatch.delenv("PGPASSWORD")
    with pytest.raises(StoreDenied, match="asks for a password; put PGPASSWORD into"):
        open_vectors(pgvector).encoder()

    assert str(wrong.value) == (
        f'{pgvector}: password authentication failed for user "{OWNER}"; correct PGUSER and PGPASSWORD in the '
        f"workers' Secret"
    )


def test_a_database_that_is_not_there_is_to_be_created(pgvector: str) -> None:
    with pytest.raises(StoreMismatch, match=r'database "none" does not exist; create it, or correct the URI'):
        open_vectors(pgvector.replace("/postgres?", "/none?")).encoder()


def test_a_server_that_is_away_is_asked_again(pgvector: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = _free_ports(1)
    monkeypatch.setenv("PGPORT", str(port))

    with pytest.raises(VectorStoreError, match=r"cannot be reached \(.*refused.*\); check the server") as raised:
        open_vectors(f"postgresql://127.0.0.1:{port}/postgres").encoder()

    assert type(raised.value) is VectorStoreError


def test_who_may_not_install_pgvector_or_make_a_table_is_told_what_to_ask_for(
    pgvector: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect() as connection:
        connection.execute("CREATE DATABASE little")
        connection.execute("CREATE ROLE little LOGIN PASSWORD 'little'")
    monkeypatch.setenv("PGUSER", "little")
    monkeypatch.setenv("PGPASSWORD", "little")
    uri = pgvector.replace("/postgres?", "/little?")

    with pytest.raises(StoreDenied, match="have an administrator run CREATE EXTENSION vector in the database"):
        open_vectors(uri).replace(kept("x"), [DOCUMENT], ENCODER)
    with connect() as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    with pytest.raises(StoreDenied, match="permission denied for schema public; grant it, or give a table that"):
        open_vectors(pgvector).replace(kept("x"), [DOCUMENT], ENCODER)


def test_where_there_is_an_index_as_many_are_found_as_are_asked_for(pgvector: str, connect: Connect) -> None:
    """By itself it looks at 40 rows, however many are asked for."""
    vectors = [replace(each, vector=(1.0, each.chunk.start / 300, 0.0)) for each in kept(*map(str, range(300)))]
    open_vectors(pgvector).replace(vectors, [DOCUMENT], ENCODER)
    table = pgvector.rpartition("=")[2]
    with connect() as owner:
        owner.execute(f"CREATE INDEX ON {table} USING hnsw (vector vector_cosine_ops)")
        owner.execute(f"ANALYZE {table}")
        for setting in ("enable_seqscan", "enable_sort"):
            owner.execute(f"ALTER DATABASE postgres SET {setting} = off")
        try:
            assert len(open_vectors(pgvector).nearest([1.0, 0.0, 0.0], 100)) == 100
        finally:
            owner.execute("ALTER DATABASE postgres RESET ALL")
