"""The vector store of a URI."""

from __future__ import annotations

from importlib.util import find_spec

from perdure_api.uri import UriError
from perdure_api.vectors_uri import DatabaseUri, parse_vectors_uri
from perdure_documents.vectors.contract import StoreMismatch, VectorStore


def open_vectors(uri: str) -> VectorStore:
    """The vector store of a URI. Nothing is read yet.

    Raises:
        StoreMismatch: no store of this kind is spoken to.
    """
    try:
        place = parse_vectors_uri(uri)
    except UriError as error:
        raise StoreMismatch(str(error)) from error
    if isinstance(place, DatabaseUri):
        if find_spec("psycopg") is None:
            raise StoreMismatch(f"{place}: found no psycopg here; have the worker's image made with perdure[documents]")
        from perdure_documents.vectors.pgvector import PgvectorStore  # noqa: PLC0415 - where it is used

        return PgvectorStore(place)
    from perdure_documents.vectors.lance import LanceStore  # noqa: PLC0415 - 180 MB, where it is used

    return LanceStore(place)
