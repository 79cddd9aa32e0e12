"""PostgreSQL with pgvector: one table a store. Every change is one transaction, seen whole or not at all.

Who asks is in the environment, as libpq has it: PGHOST, PGPORT, PGUSER, PGPASSWORD, PGSSLMODE and so on. No other
server is connected to: whoever gives a URI could otherwise have the password sent to a server of their own.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg import Connection, errors, sql

from perdure_api.vectors_uri import PORT, DatabaseUri
from perdure_documents.chunks import Chunk
from perdure_documents.vectors.contract import (
    Encoder,
    Found,
    Kept,
    StoreDenied,
    StoreMismatch,
    VectorStoreError,
    refuse_other_dimension,
    refuse_other_encoder,
)

_FORMAT: Final = 1
_CONNECT_SECONDS: Final = 10
_ALIVE: Final[Mapping[str, Any]] = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""A server that is lost without a word is noticed within a minute; the system's own limit is two hours."""
_INSTALLED: Final = "install pgvector on the server, then CREATE EXTENSION vector in the database"

_DESCRIBE: Final = """
    SELECT obj_description(c.oid, 'pg_class'), a.atttypmod
    FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'vector' AND NOT a.attisdropped
    WHERE c.oid = to_regclass(%s)"""
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
_NOTICE_A_LOST_WRITER: Final = """
    SET LOCAL tcp_keepalives_idle = 30; SET LOCAL tcp_keepalives_interval = 10; SET LOCAL tcp_keepalives_count = 3"""
"""A worker whose node is gone would otherwise hold the lock for two hours."""
# By the bytes of a URI, as Python compares them: whatever the database's language, a folder is one range of the key.
_CREATE: Final = """
    CREATE TABLE {table} (
        document text COLLATE "C" NOT NULL, revision text NOT NULL, ordinal integer NOT NULL, text text NOT NULL,
        "start" bigint NOT NULL, "end" bigint NOT NULL, page integer, headings text[] NOT NULL,
        vector vector({dimension}) NOT NULL, PRIMARY KEY (document, ordinal))"""
_COPY: Final = """
    COPY {table} (document, revision, ordinal, text, "start", "end", page, headings, vector) FROM STDIN"""
_REVISIONS: Final = "SELECT document, revision FROM {table} WHERE ordinal = 0 AND document = ANY(%s)"
_BELOW: Final = """
    SELECT document FROM {table} WHERE ordinal = 0 AND (document = %s OR (document >= %s AND document < %s))"""
_DELETE: Final = "DELETE FROM {table} WHERE document = ANY(%s)"
_NEAREST: Final = """
    SELECT document, ordinal, text, "start", "end", page, headings, vector <=> %(vector)s::vector AS distance
    FROM {table} ORDER BY vector <=> %(vector)s::vector LIMIT %(count)s"""

_LOOK_AT: Final = "SELECT set_config('hnsw.ef_search', %s, true)"
_LOOKED_AT: Final = (40, 1000)
"""Rows that an index looks at by itself, however many are asked for, and the most that it can be told to."""


class PgvectorStore:
    """A table of chunks. The encoder is told in its comment. Each call has a connection of its own."""

    def __init__(self, place: DatabaseUri) -> None:
        self._place = place
        self._table = sql.Identifier(*place.table)

    def encoder(self) -> Encoder | None:
        """What made the vectors in it; None: there is no table."""
        with self._transaction() as connection:
            return self._encoder(connection)

    def revisions(self, documents: Collection[str]) -> Mapping[str, str]:
        """The revision of each of these documents that is in it."""
        with self._transaction() as connection:
            if self._encoder(connection) is None:
                return {}
            rows = connection.execute(self._on_table(_REVISIONS), [list(documents)])
            return {row[0]: row[1] for row in rows}

    def documents_below(self, source: str) -> set[str]:
        """The documents in it whose URI is `source`, or begins with `source/`."""
        folder = source.rstrip("/")
        with self._transaction() as connection:
            if self._encoder(connection) is None:
                return set()
            # "0" is what comes after "/".
            rows = connection.execute(self._on_table(_BELOW), [folder, f"{folder}/", f"{folder}0"])
            return {document for (document,) in rows}

    def replace(self, chunks: Sequence[Kept], documents: Collection[str], encoder: Encoder) -> None:
        """Has these documents be these chunks and no others, in one transaction."""
        with self._writing() as connection:
            there = self._encoder(connection)
            if there is None:
                self._create(connection, encoder)
            else:
                refuse_other_encoder(self._place, there, encoder)
            connection.execute(self._on_table(_DELETE), [list(documents)])
            with connection.cursor().copy(self._on_table(_COPY)) as copy:
                for each in chunks:
                    copy.write_row(_row(each))

    def remove(self, documents: Collection[str]) -> None:
        """Has these documents be gone."""
        with self._writing() as connection:
            if self._encoder(connection) is not None:
                connection.execute(self._on_table(_DELETE), [list(documents)])

    def tidy(self) -> None:
        """Nothing: PostgreSQL does it by itself (autovacuum)."""

    def nearest(self, vector: Sequence[float], count: int) -> list[Found]:
        """The chunks nearest to a vector: every one is looked at, or, where there is an index, those near to it."""
        with self._transaction() as connection:
            there = self._encoder(connection)
            if there is None:
                return []
            refuse_other_dimension(self._place, there, vector)
            connection.execute(_LOOK_AT, [str(min(max(count, _LOOKED_AT[0]), _LOOKED_AT[1]))])
            rows = connection.execute(self._on_table(_NEAREST), {"vector": _written(vector), "count": count})
            return [_found(*row) for row in rows]

    def _encoder(self, connection: Connection) -> Encoder | None:
        row = connection.execute(_DESCRIBE, [".".join(f'"{part}"' for part in self._place.table)]).fetchone()
        if row is None:
            return None
        comment, dimension = row
        told = _told(comment)
        if told.get("format") != _FORMAT:
            raise StoreMismatch(
                f"{self._place} has a table that Perdure has not made, or a newer version of it; expected format "
                f"{_FORMAT} in its comment: give another table"
            )
        return Encoder(told["model"], told["fingerprint"], dimension)

    def _create(self, connection: Connection, encoder: Encoder) -> None:
        told = {"format": _FORMAT, "model": encoder.model, "fingerprint": encoder.fingerprint}
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        connection.execute(self._on_table(_CREATE, dimension=encoder.dimension))
        connection.execute(self._on_table("COMMENT ON TABLE {table} IS {told}", told=json.dumps({"perdure": told})))

    def _on_table(self, statement: Any, **literals: object) -> sql.Composed:
        """A statement of this module with the table's name, and with values that PostgreSQL takes no parameters for."""
        values = {name: sql.Literal(value) for name, value in literals.items()}
        return sql.SQL(statement).format(table=self._table, **values)

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """A transaction that nobody else writes beside, who has not seen its end."""
        with self._transaction() as connection:
            connection.execute(_NOTICE_A_LOST_WRITER)
            connection.execute(_LOCK, [f"perdure:{'.'.join(self._place.table)}"])
            yield connection

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """Committed at the end of the block, and gone without a trace where that does not come."""
        self._refuse_other_servers()
        try:
            with psycopg.connect(
                host=self._place.host.strip("[]"),
                port=self._place.port,
                dbname=self._place.database,
                connect_timeout=_CONNECT_SECONDS,
                application_name="perdure",
                # What a proxy between here and the server may not know of.
                prepare_threshold=None,
                **_ALIVE,
            ) as connection:
                yield connection
        except psycopg.Error as error:
            # Alone: of a failure that is tried again Temporal shows a few KB, and what psycopg said is in the sentence.
            raise _translated(self._place, error) from None

    def _refuse_other_servers(self) -> None:
        host = os.environ.get("PGHOST", "").lower()
        port = os.environ.get("PGPORT") or str(PORT)
        if not host:
            raise StoreDenied(
                f"{self._place}: the workers have no PostgreSQL; put PGHOST, PGUSER and PGPASSWORD into a Secret, and "
                f"name that in gpuWorker.postgresql.secretName"
            )
        if (self._place.host.strip("[]"), str(self._place.port)) != (host.strip("[]"), port):
            raise StoreDenied(
                f"{self._place}: the workers' password is for {host}:{port} (PGHOST, PGPORT) and shown to no other "
                f"server; write the URI with it, or have the Secret changed"
            )


def _told(comment: str | None) -> Mapping[str, Any]:
    try:
        return json.loads(comment or "")["perdure"]  # type: ignore[no-any-return]
    except (ValueError, KeyError, TypeError):
        return {}


def _row(each: Kept) -> tuple[object, ...]:
    chunk = each.chunk
    place = (chunk.start, chunk.end, chunk.page, [_text(heading) for heading in chunk.headings])
    return (each.document, each.revision, each.ordinal, _text(chunk.text), *place, _written(each.vector))


def _text(text: str) -> str:
    """Without NUL, which PDFs may have and PostgreSQL does not keep. What is there instead is as long."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _written(vector: Sequence[float]) -> str:
    return f"[{','.join(map(str, vector))}]"


def _found(
    document: str, ordinal: int, text: str, start: int, end: int, page: int | None, headings: list[str], distance: float
) -> Found:
    # A vector of zeros has no direction.
    score = 0.0 if math.isnan(distance) else 1.0 - distance
    return Found(document, ordinal, Chunk(text, start, end, page, tuple(headings)), score)


def _translated(place: DatabaseUri, error: psycopg.Error) -> VectorStoreError:
    """What waiting heals is a VectorStoreError and no other: callers try that again."""
    code, problem = error.sqlstate, " ".join((error.diag.message_primary or str(error)).split())[:500]
    match error:
        case errors.UndefinedFile() | errors.FeatureNotSupported() if "vector" in problem:
            return StoreMismatch(f"{place}: the server has no pgvector; {_INSTALLED}")
        case errors.UndefinedObject() if '"vector"' in problem:
            return StoreMismatch(f"{place}: the type vector is not found ({problem}); put its schema into search_path")
        case errors.InsufficientPrivilege() if "extension" in problem:
            return StoreDenied(f"{place}: {problem}; have an administrator run CREATE EXTENSION vector in the database")
        case errors.InvalidSchemaName():
            return StoreMismatch(f"{place}: {problem}; create the schema, or correct the URI")
        case errors.InsufficientPrivilege():
            return StoreDenied(f"{place}: {problem}; grant it, or give a table that these credentials (PGUSER) may use")
        case errors.DataError():
            return StoreMismatch(f"{place}: {problem}; the database takes no such chunk (is its encoding UTF8?)")
    return VectorStoreError(f"{place}: {problem}; this is tried again") if code else _not_connected(place, problem)


def _not_connected(place: DatabaseUri, problem: str) -> VectorStoreError:
    """Of a connection that was refused libpq tells no code, only a sentence."""
    said = problem.rpartition("FATAL: ")[2].strip()
    if "authentication failed" in said or "no pg_hba.conf entry" in said or "permission denied for database" in said:
        return StoreDenied(f"{place}: {said}; correct PGUSER and PGPASSWORD in the workers' Secret")
    if "no password supplied" in problem:
        return StoreDenied(f"{place}: the server asks for a password; put PGPASSWORD into the workers' Secret")
    if said.startswith("database ") and said.endswith("does not exist"):
        return StoreMismatch(f"{place}: {said}; create it, or correct the URI")
    return VectorStoreError(
        f"{place} cannot be reached ({said}); check the server, its address and the workers' NetworkPolicy if this "
        f"does not pass"
    )
