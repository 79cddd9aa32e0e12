"""What a dataset is made of: the kinds of record that can be trained on.

    Record
    ├── Passage         text: every token of it is learnt
    ├── Completion      a prompt and what is to follow it: only that is learnt
    ├── Conversation    messages: what the assistant says is learnt
    └── Utterance       a recording and its transcript: the sound is learnt

All records of a dataset are of one kind. Each knows where it stands (file and line, or row): for messages.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

SOMEWHERE: Final = "a record"
"""Where a record stands that was read from no file."""


@dataclass(frozen=True)
class Passage:
    """A piece of a document."""

    text: str
    ends_document: bool
    """Whether the document is over with it. A record is a whole document; a text file is one altogether."""
    where: str = field(default=SOMEWHERE, kw_only=True, compare=False)


@dataclass(frozen=True)
class Completion:
    """A prompt, which may be empty, and what is to follow it, which is not white space only."""

    prompt: str
    completion: str
    where: str = field(default=SOMEWHERE, kw_only=True, compare=False)


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: str
    """`system`, `user`, `assistant` or `tool`."""
    content: str


@dataclass(frozen=True)
class Conversation:
    """Messages in their order; in at least one of them the assistant says something."""

    messages: tuple[Message, ...]
    where: str = field(default=SOMEWHERE, kw_only=True, compare=False)


@dataclass(frozen=True)
class Utterance:
    """A recording, and what is said in it, which is not white space only."""

    where: str
    audio: str
    """The recording as the record names it: a path relative to that file, or a store URI."""
    text: str
    wav: bytes = field(default=b"", repr=False)
    """The recording itself, a whole WAV file; empty before it was read."""


Record = Passage | Completion | Conversation | Utterance
