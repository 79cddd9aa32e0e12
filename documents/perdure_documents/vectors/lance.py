"""LanceDB: a folder in the object store, without a server. Every change is one commit, seen whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

import lancedb
import pyarrow as pa
from lancedb.table import Table

from perdure_api.uri import StoreUri
from perdure_documents.chunks import Chunk
from perdure_documents.vectors.contract import (
    Encoder,
    Found,
    Kept,
    StoreMismatch,
    VectorStoreError,
    refuse_other_dimension,
    refuse_other_encoder,
)

TABLE: Final = "chunks"
_METADATA: Final = b"perdure"
_FORMAT: Final = 1
_DOCUMENTS_AT_ONCE: Final = 500
"""In one condition."""
_KEEP: Final = timedelta(days=1)
"""Versions that readers may still look at."""
_COLUMNS: Final = ("document", "ordinal", "text", "start", "end", "page", "headings")
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


class LanceStore:
    """A table of chunks. The encoder is told in its schema."""

    def __init__(self, place: StoreUri) -> None:
        self._place = place
        self._table: Table | None = None

    def encoder(self) -> Encoder | None:
        """What made the vectors in it; None: there is no table."""
        table = self._opened()
        return None if table is None else _encoder(self._place, table.schema)

    def revisions(self, documents: Collection[str]) -> Mapping[str, str]:
        """The revision of each of these documents that is in it."""
        table = self._opened()
        if table is None:
            return {}
        found: dict[str, str] = {}
        with self._translated():
            for some in _batched(sorted(documents)):
                query = table.search().where(f"ordinal = 0 AND document IN ({some})").select(["document", "revision"])
                rows = query.limit(_DOCUMENTS_AT_ONCE).to_arrow().to_pylist()
                found |= {row["document"]: row["revision"] for row in rows}
        return found

    def documents_below(self, source: str) -> set[str]:
        """The documents in it whose URI is `source`, or begins with `source/`."""
        table = self._opened()
        if table is None:
            return set()
        folder = source.rstrip("/")
        below = f"document = {_quoted(folder)} OR starts_with(document, {_quoted(f'{folder}/')})"
        with self._translated():
            query = table.search().where(f"ordinal = 0 AND ({below})").select(["document"])
            return {
                document
                for batch in query.limit(table.count_rows() or 1).to_batches()
                for document in batch.column("document").to_pylist()
            }

    def replace(self, chunks: Sequence[Kept], documents: Collection[str], encoder: Encoder) -> None:
        """Has these documents be these chunks and no others, in one commit."""
        table = self._opened() or self._created(encoder)
        refuse_other_encoder(self._place, _encoder(self._place, table.schema), encoder)
        with self._translated():
            if not chunks:
                self.remove(documents)
                return
            merge = table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            merge = merge.when_not_matched_by_source_delete(f"document IN ({_list(sorted(documents))})")
            merge.execute(_rows(chunks, table.schema))

    def remove(self, documents: Collection[str]) -> None:
        """Has these documents be gone."""
        table = self._opened()
        if table is None:
            return
        with self._translated():
            for some in _batched(sorted(documents)):
                table.delete(f"document IN ({some})")

    def tidy(self) -> None:
        """Makes of many small files few large ones, and drops versions that are a day old."""
        table = self._opened()
        if table is not None:
            with self._translated():
                table.optimize(cleanup_older_than=_KEEP)

    def nearest(self, vector: Sequence[float], count: int) -> list[Found]:
        """The chunks nearest to a vector: every one is looked at, or, where there is an index, those near to it."""
        table = self._opened()
        if table is None:
            return []
        refuse_other_dimension(self._place, _encoder(self._place, table.schema), vector)
        with self._translated():
            query = table.search(pa.array(vector, pa.float32()).to_numpy()).metric("cosine")
            rows = query.select([*_COLUMNS, "_distance"]).limit(count).to_arrow().to_pylist()
        return [_found(row) for row in rows]

    def _opened(self) -> Table | None:
        """The table as it is now; None: there is none."""
        with self._translated():
            if self._table is None:
                connection = self._connection()
                if TABLE not in _tables(connection):
                    return None
                self._table = connection.open_table(TABLE)
            else:
                # Others may have written since.
                self._table.checkout_latest()
        return self._table

    def _created(self, encoder: Encoder) -> Table:
        with self._translated():
            self._table = self._connection().create_table(TABLE, schema=_schema(encoder), exist_ok=True)
        return self._table

    def _connection(self) -> lancedb.DBConnection:
        uri = self._place.path if self._place.scheme == "file" else str(self._place).rstrip("/")
        # Seconds within which a reader sees what others have written; 0: at once.
        return lancedb.connect(uri, storage_options=_options(self._place), read_consistency_interval=timedelta(0))

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except VectorStoreError:
            raise
        except (OSError, ValueError, RuntimeError) as error:
            problem = " ".join(str(error).split())[:500]
            if "NoSuchBucket" in str(error):
                problem = f"there is no bucket {self._place.bucket}; create it or correct the URI"
            raise VectorStoreError(f"the vector store {self._place}: {problem}") from error


def _tables(connection: lancedb.DBConnection) -> list[str]:
    answer = connection.list_tables()
    return list(getattr(answer, "tables", answer))


def _schema(encoder: Encoder) -> pa.Schema:
    told = {"format": _FORMAT, "model": encoder.model, "fingerprint": encoder.fingerprint}
    return pa.schema(
        [
            ("id", pa.string()),
            ("document", pa.string()),
            ("revision", pa.string()),
            ("ordinal", pa.int32()),
            ("text", pa.string()),
            ("start", pa.int64()),
            ("end", pa.int64()),
            ("page", pa.int32()),
            ("headings", pa.list_(pa.string())),
            ("vector", pa.list_(pa.float32(), encoder.dimension)),
        ],
        metadata={_METADATA: json.dumps(told).encode()},
    )


def _encoder(place: StoreUri, schema: pa.Schema) -> Encoder:
    told = json.loads((schema.metadata or {}).get(_METADATA, b"{}"))
    if told.get("format") != _FORMAT:
        raise StoreMismatch(
            f"{place} has a table {TABLE} that Perdure has not made, or a newer version of it; expected format "
            f"{_FORMAT}: give another folder"
        )
    return Encoder(told["model"], told["fingerprint"], schema.field("vector").type.list_size)


def _rows(chunks: Sequence[Kept], schema: pa.Schema) -> pa.Table:
    columns = {
        "id": [f"{each.document}#{each.ordinal}" for each in chunks],
        "document": [each.document for each in chunks],
        "revision": [each.revision for each in chunks],
        "ordinal": [each.ordinal for each in chunks],
        "text": [each.chunk.text for each in chunks],
        "start": [each.chunk.start for each in chunks],
        "end": [each.chunk.end for each in chunks],
        "page": [each.chunk.page for each in chunks],
        "headings": [list(each.chunk.headings) for each in chunks],
        "vector": [each.vector for each in chunks],
    }
    return pa.table({name: pa.array(columns[name], schema.field(name).type) for name in columns}, schema=schema)


def _found(row: Mapping[str, Any]) -> Found:
    chunk = Chunk(row["text"], row["start"], row["end"], row["page"], tuple(row["headings"] or ()))
    return Found(row["document"], row["ordinal"], chunk, 1.0 - row["_distance"])


def _batched(documents: Sequence[str]) -> Iterator[str]:
    for start in range(0, len(documents), _DOCUMENTS_AT_ONCE):
        yield _list(documents[start : start + _DOCUMENTS_AT_ONCE])


def _list(documents: Sequence[str]) -> str:
    return ", ".join(_quoted(document) for document in documents)


def _quoted(text: str) -> str:
    """As SQL writes it: a quote in it is doubled, and nothing else means anything."""
    return "'" + text.replace("'", "''") + "'"


def _options(place: StoreUri) -> dict[str, str] | None:
    """What the object store's client in Lance does not take from the environment as ours does."""
    if place.scheme != "s3":
        return None
    endpoint = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), "")
    return {"aws_endpoint": endpoint, "allow_http": str(endpoint.startswith("http://")).lower()} if endpoint else {}
