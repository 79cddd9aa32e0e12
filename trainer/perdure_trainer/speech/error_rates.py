"""Word and character error rate: how much of what was said must be changed to get what was heard."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

_NEITHER_LETTER_NOR_APOSTROPHE: Final = re.compile(r"[^\w']+|_")


@dataclass(frozen=True)
class ErrorRates:
    """Edits (substitutions, deletions, insertions) for each word, and each character, that was said.

    Over all sentences together, as Levenshtein counts them; more than 1 when more was heard than said.
    """

    words: float
    characters: float


def error_rates(said_and_heard: Iterable[tuple[str, str]]) -> ErrorRates:
    """The rates of pairs of sentences, in which case, punctuation and spaces beside words do not count."""
    pairs = [(plain(said), plain(heard)) for said, heard in said_and_heard]
    return ErrorRates(
        _rate((said.split(), heard.split()) for said, heard in pairs),
        _rate(pairs),
    )


def plain(text: str) -> str:
    """The words of a text, in small letters."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    return " ".join(word for part in _NEITHER_LETTER_NOR_APOSTROPHE.split(folded) if (word := part.strip("'")))


def edits(said: Sequence[str], heard: Sequence[str]) -> int:
    """The least number of substitutions, deletions and insertions (Levenshtein 1966)."""
    row = list(range(len(heard) + 1))
    for number, one in enumerate(said, 1):
        diagonal, row[0] = row[0], number
        for place, other in enumerate(heard, 1):
            cost = min(row[place] + 1, row[place - 1] + 1, diagonal + (one != other))
            diagonal, row[place] = row[place], cost
    return row[-1]


def _rate(pairs: Iterable[tuple[Sequence[str], Sequence[str]]]) -> float:
    found = [(edits(said, heard), len(said)) for said, heard in pairs]
    return sum(changes for changes, _ in found) / max(1, sum(length for _, length in found))
