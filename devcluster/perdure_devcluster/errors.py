"""What goes wrong, in sentences.

DevclusterError
├── CommandFailed    a program that we ran ended with an error
└── Unreachable      the API server did not answer, or answered with an error
"""

from __future__ import annotations


class DevclusterError(Exception):
    """A sentence for the person at the terminal: found, expected, what to do."""


class CommandFailed(DevclusterError):
    """A program ended with an error; the message holds its last words."""


class Unreachable(DevclusterError):
    """The API server did not do what it was asked to do."""

    def __init__(self, message: str, status: int | None = None) -> None:
        """Keep the HTTP status, None when there was no answer at all."""
        super().__init__(message)
        self.status = status
