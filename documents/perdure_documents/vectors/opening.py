"""The vector store of a URI."""

from __future__ import annotations

from perdure_api.uri import SCHEMES, UriError, parse_uri
from perdure_documents.vectors.contract import StoreMismatch, VectorStore


def open_vectors(uri: str) -> VectorStore:
    """The vector store of a URI. Nothing is read yet.

    Raises:
        StoreMismatch: no store of this kind is spoken to.
    """
    scheme = uri.partition("://")[0]
    if scheme not in SCHEMES:
        raise StoreMismatch(
            f'"{uri}" is no vector store that this version speaks to; expected a folder for LanceDB at s3://, gs://, '
            f"az:// or file://, such as s3://bucket/vectors"
        )
    try:
        place = parse_uri(uri)
    except UriError as error:
        raise StoreMismatch(str(error)) from error
    from perdure_documents.vectors.lance import LanceStore  # noqa: PLC0415 - 180 MB, where it is used

    return LanceStore(place)
