"""What every vector store does. One more kind of store is one more class that does it, and a line in `opening`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from perdure_documents.chunks import Chunk


class VectorStoreError(Exception):
    """A vector store did not do what was asked; trying again may help."""


class StoreMismatch(VectorStoreError):
    """It never will: what was asked does not fit what is in it. The message says what to do."""


class StoreDenied(VectorStoreError):
    """It does not let us in, or does not let us do this. The message says what to do."""


@dataclass(frozen=True)
class Kept:
    """A chunk of a document with its vector, as it is kept."""

    document: str
    """URI."""
    revision: str
    """Digest of the document's bytes and of how it was cut."""
    ordinal: int
    """Number of the chunk in its document, from 0."""
    chunk: Chunk
    vector: Sequence[float]


@dataclass(frozen=True)
class Found:
    """A chunk that is near to what was asked for."""

    document: str
    ordinal: int
    chunk: Chunk
    score: float
    """Cosine of the angle between the two vectors: 1 is the same direction, 0 has nothing to do with it."""


@dataclass(frozen=True)
class Encoder:
    """Of which vectors a store is full. Those of another encoder mean something else."""

    model: str
    """URI."""
    fingerprint: str
    dimension: int


def refuse_other_encoder(place: object, there: Encoder, given: Encoder) -> None:
    """Nothing, where vectors of the one are comparable with those of the other.

    Raises:
        StoreMismatch: they are not.
    """
    if there.dimension != given.dimension:
        raise StoreMismatch(
            f"{place} holds vectors of {there.dimension} numbers by {there.model}, and {given.model} makes vectors of "
            f"{given.dimension}; give that model, or another store"
        )
    if there.fingerprint != given.fingerprint:
        raise StoreMismatch(
            f"{place} holds vectors by {there.model} ({there.fingerprint}), and {given.model} is another model "
            f"({given.fingerprint}), whose vectors mean something else; give that model, or another store"
        )


def refuse_other_dimension(place: object, there: Encoder, vector: Sequence[float]) -> None:
    """Nothing, where a vector has as many numbers as those in the store.

    Raises:
        StoreMismatch: it has not.
    """
    if len(vector) != there.dimension:
        raise StoreMismatch(
            f"{place} holds vectors of {there.dimension} numbers, and asked was one of {len(vector)}; ask with the "
            f"model that it was made with, {there.model}"
        )


class VectorStore(Protocol):
    """Chunks by document. All methods raise VectorStoreError; all block."""

    def encoder(self) -> Encoder | None:
        """What made the vectors in it; None: it is empty."""

    def revisions(self, documents: Collection[str]) -> Mapping[str, str]:
        """The revision of each of these documents that is in it."""

    def documents_below(self, source: str) -> set[str]:
        """The documents in it whose URI is `source`, or begins with `source/`."""

    def replace(self, chunks: Sequence[Kept], documents: Collection[str], encoder: Encoder) -> None:
        """Has these documents be these chunks and no others, all at once: nobody sees a half of it.

        Raises:
            StoreMismatch: it is full of vectors of another encoder.
        """

    def remove(self, documents: Collection[str]) -> None:
        """Has these documents be gone."""

    def tidy(self) -> None:
        """Makes of many small files few large ones, and drops what nobody can see any more."""

    def nearest(self, vector: Sequence[float], count: int) -> list[Found]:
        """The chunks nearest to a vector, the nearest first."""
