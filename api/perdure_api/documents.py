"""What the workflows `document_ingest` and `search` take and return.

These documents lie in Temporal's histories: fields may be added with a default, never renamed or removed.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, model_validator

from perdure_api.inference import Text, Uri
from perdure_api.model import Count, TolerantModel
from perdure_api.uri import UriError
from perdure_api.vectors_uri import is_database, parse_vectors_uri

REFUSALS_TOLD: Final = 100
"""Of the documents that were not read; more are counted only."""


class DocumentProblem(StrEnum):
    """Why a request is refused: the type of an error that is not tried again."""

    SOURCE_NOT_FOUND = "SourceNotFound"
    NOTHING_READ = "NothingRead"
    """Every document was refused."""
    STORE_MISMATCH = "StoreMismatch"
    """The vector store holds vectors of another model, or is none that is spoken to."""
    STORE_NOT_FOUND = "StoreNotFound"
    ACCESS_DENIED = "AccessDenied"
    INVALID_REQUEST = "InvalidRequest"


def _checked_store(uri: str) -> str:
    try:
        parse_vectors_uri(uri)
    except UriError as error:
        raise ValueError(str(error)) from error
    return uri


VectorsUri = Annotated[str, Field(max_length=2048), AfterValidator(_checked_store)]


class DocumentIngestInput(TolerantModel):
    """Documents that are to be found by what they mean."""

    source: Uri = Field(description="A document, or a folder with documents, and folders of them, in the object store.")
    store: VectorsUri = Field(description="Vector store: a folder for LanceDB, or a table for pgvector.")
    model: Uri = Field(description="URI of a folder with a sentence encoder.")
    chunk_size: int = Field(default=1000, ge=50, le=20_000, description="Characters of a chunk, about.")
    chunk_overlap: int = Field(default=150, ge=0, description="Characters in common with the chunk before, at most.")
    remove_missing: bool = Field(default=True, description="What is no more in the source goes out of the store.")
    may_be_empty: bool = Field(
        default=False, description="true: a source without documents is none by mistake, and all go out of the store."
    )
    staging: Uri | None = Field(
        default=None,
        description="Folder in the object store for what the steps leave for each other. Left out: staging in the "
        "vector store, or, where that is a database, _staging in the source.",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.chunk_overlap > self.chunk_size // 2:
            raise ValueError(
                f"found chunkOverlap {self.chunk_overlap} for chunkSize {self.chunk_size}; expected at most half of it"
            )
        if f"{self.store.rstrip('/')}/".startswith(f"{self.source.rstrip('/')}/"):
            raise ValueError(f"the store {self.store} is in the source {self.source}; give it a folder beside that")
        return self

    @property
    def staging_folder(self) -> str:
        """URI of the folder in which every run has one of its own, and takes it away at its end."""
        if self.staging is not None:
            return self.staging.rstrip("/")
        if not is_database(self.store):
            return f"{self.store.rstrip('/')}/staging"
        above, _, name = self.source.rstrip("/").rpartition("/")
        # Nothing can be below a document. What begins with an underscore is passed over as one.
        return f"{above}/_staging" if "." in name else f"{above}/{name}/_staging"


class DocumentRefusal(TolerantModel):
    """A document that was not read. What was in the store of it stays there, unless it is empty now."""

    document: str
    problem: str
    message: str


class DocumentIngestResult(TolerantModel):
    """What became of the documents."""

    documents: Count = 0
    """That were found."""
    unchanged: Count = 0
    """That were in the store as they are."""
    written: Count = 0
    """That are new, or changed: all their chunks were replaced."""
    removed: Count = 0
    """That are no more in the source."""
    refused: Count = 0
    chunks: Count = 0
    """That were written."""
    tokens: Count = 0
    """That the model has read."""
    truncated: Count = 0
    """Chunks of which the model has read only the beginning; smaller ones help."""
    refusals: list[DocumentRefusal] = []
    """The first of those that were refused."""


class SearchInput(TolerantModel):
    """What is looked for."""

    text: Text = Field(description="A question, or a few words.")
    store: VectorsUri = Field(description="Vector store, as document_ingest has written it.")
    count: int = Field(default=5, ge=1, le=100, description="Chunks to find.")


class Hit(TolerantModel):
    """A chunk that was found."""

    document: str
    """URI."""
    start: int
    end: int
    """Its place in the document, in characters; of a PDF, in the text of its pages."""
    page: int | None = None
    """Of a PDF, from 1."""
    headings: list[str] = []
    """Under which it stands."""
    score: float
    """Cosine: 1 means the same, 0 has nothing to do with it."""
    text: str


class SearchResult(TolerantModel):
    """What was found, the nearest first."""

    hits: list[Hit]
    model: str
    """URI of the sentence encoder that the store was written with."""
