"""What is counted of records, and the first sign that they say more than one thing."""

from __future__ import annotations

from typing import assert_never

from perdure_data.datasets.errors import DatasetBroken, DatasetEmpty
from perdure_data.datasets.records import Completion, Conversation, Passage, Record, Utterance
from perdure_data.datasets.source import Source


class Census:
    """Counts what can be learnt from."""

    def __init__(self) -> None:
        self.documents = 0
        self._characters: set[str] = set()
        self._words: set[str] = set()
        self._word_count = 0

    def count(self, record: Record) -> None:
        """Takes one record into account; white space is none."""
        words = text_of(record).split()
        if not words:
            return
        self.documents += record.ends_document if isinstance(record, Passage) else 1
        self._word_count += len(words)
        if len(self._words) < 2:  # noqa: PLR2004 - a second word is all it takes
            self._words.update(words)
        if len(self._characters) < 2:  # noqa: PLR2004 - the same of characters
            self._characters.update(*words)

    def refuse_useless(self, source: Source) -> None:
        """Raises DatasetEmpty when nothing was said, DatasetBroken when it was one thing over and over."""
        if not self._words:
            raise DatasetEmpty(
                f"dataset {source.uri} holds nothing but white space; expected text. Check how it was made"
            )
        repeated = len(self._words) == 1 and self._word_count > 1
        if repeated or len(self._characters) == 1:
            word = next(iter(self._words))
            raise DatasetBroken(
                f'dataset {source.uri} says only "{word[:40]}", {self._word_count} times; '
                "nothing can be learnt from that. Check how it was made"
            )


def text_of(record: Record) -> str:
    """All that a record says."""
    match record:
        case Passage(text) | Utterance(text=text):
            return text
        case Completion(prompt, completion):
            return f"{prompt} {completion}"
        case Conversation(messages):
            return " ".join(message.content for message in messages)
        case _:
            assert_never(record)
