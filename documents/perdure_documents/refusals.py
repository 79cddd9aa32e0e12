"""Why a document is not read. The rest of a folder is: one bad file stops nothing."""

from __future__ import annotations

from enum import StrEnum


class Problem(StrEnum):
    """What is wrong with a document."""

    EMPTY = "Empty"
    BINARY = "Binary"
    BROKEN = "Broken"
    ENCRYPTED = "Encrypted"
    ARCHIVE = "Archive"
    TOO_LARGE = "TooLarge"
    TOO_SLOW = "TooSlow"
    UNKNOWN_FORMAT = "UnknownFormat"


class Refused(Exception):
    """A document is not read; the message goes on where its name has ended: `is empty; …`."""

    def __init__(self, problem: Problem, message: str) -> None:
        super().__init__(message)
        self.problem = problem
        self.message = message
