"""Tokenized documents: in files, so that a dataset may be larger than memory."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import numpy as np
import numpy.typing as npt

Stored = npt.NDArray[np.int32]
"""Tokens; one that is read but not learnt is stored as its complement, which is below 0."""
Offsets = npt.NDArray[np.int64]

K = TypeVar("K", np.int32, np.int64)

TOKENS_NAME: Final = "tokens.i32"
ENDS_NAME: Final = "ends.i64"


def stored(tokens: npt.ArrayLike, *, learnt: bool) -> Stored:
    """Tokens as they are stored."""
    plain = np.asarray(tokens, np.int32)
    return plain if learnt else ~plain


def tokens_of(some: Stored) -> Stored:
    """The tokens themselves."""
    return np.where(some < 0, ~some, some)


def learnable(some: Stored) -> bool:
    """Whether any of these tokens is learnt; the first one never is, for nothing stands before it."""
    return bool((some[1:] >= 0).any())


@dataclass(frozen=True)
class Documents:
    """Documents one after another."""

    stored: Stored
    ends: Offsets
    """Where each document ends: the index behind its last token, rising."""

    @classmethod
    def in_folder(cls, folder: Path) -> Documents:
        """The documents of a folder, without reading them."""
        return cls(_mapped(folder / TOKENS_NAME, np.int32), _mapped(folder / ENDS_NAME, np.int64))

    def split(self, held_out_fraction: float) -> tuple[Documents, Documents]:
        """The part to train on and the part to hold out: the last documents, about that share of all tokens.

        One document alone is cut inside, if it is text: half an answer is none.
        """
        wanted = round(len(self.stored) * (1 - held_out_fraction))
        if len(self.ends) > 1:
            return self._cut_behind(1 + int(np.abs(self.ends[:-1] - wanted).argmin()))
        cut = wanted if (self.stored >= 0).all() else len(self.stored)
        parts = self.stored[:cut], self.stored[cut:]
        first, second = (Documents(part, np.asarray([len(part)] if len(part) else [], np.int64)) for part in parts)
        return first, second

    def _cut_behind(self, documents: int) -> tuple[Documents, Documents]:
        cut = int(self.ends[documents - 1])
        return (
            Documents(self.stored[:cut], self.ends[:documents]),
            Documents(self.stored[cut:], self.ends[documents:] - cut),
        )


class DocumentWriter:
    """Writes documents into a folder as they come; they are there once it is closed."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._file = (folder / TOKENS_NAME).open("wb")
        self._length = 0
        self._begun = 0
        self._ends = array("q")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def inside_document(self) -> bool:
        """Whether the last document goes on."""
        return self._length > self._begun

    def add(self, some: Stored) -> None:
        """Adds tokens to the document that is being written."""
        self._file.write(some.tobytes())
        self._length += len(some)

    def end_document(self) -> None:
        """Ends the document that is being written."""
        self._ends.append(self._length)
        self._begun = self._length

    def finish(self) -> Documents:
        """Everything that was written; a document that nobody ended ends here."""
        if self.inside_document:
            self.end_document()
        self._file.close()
        (self._folder / ENDS_NAME).write_bytes(self._ends.tobytes())
        return Documents.in_folder(self._folder)


def _mapped(path: Path, kind: type[K]) -> npt.NDArray[K]:
    if path.stat().st_size == 0:  # an empty file cannot be mapped
        return np.empty(0, kind)
    return np.memmap(path, kind, mode="r")
