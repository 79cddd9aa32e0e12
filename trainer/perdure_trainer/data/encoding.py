"""From records to tokenized documents, and which of their tokens are learnt."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Final, assert_never

import numpy as np

from perdure_data.datasets import Completion, Conversation, Passage, Record, Utterance
from perdure_trainer.data.ahead import ahead
from perdure_trainer.data.chat import ChatTemplate, Segment
from perdure_trainer.data.documents import Documents, DocumentWriter, Stored, learnable, stored
from perdure_trainer.failures import DataError

RECORDS_AT_A_TIME: Final = 256
_BATCHES_AHEAD: Final = 4
_NO_TOKENS: Final = np.empty(0, np.int32)


@dataclass
class Census:
    """What became of the records."""

    documents: int = 0
    truncated: int = 0
    """Prompts and conversations that were longer than a sequence."""
    dropped: int = 0
    """Records in which there was nothing to learn."""


@dataclass(frozen=True)
class Tokenized:
    """A dataset in tokens."""

    documents: Documents
    census: Census


def tokenize(records: Iterable[Record], tokenizer: Any, sequence_length: int, folder: Path) -> Tokenized:
    """The documents of a dataset, written into a folder while they are read.

    Reading and parsing run in a thread ahead of the tokenizer, which has threads of its own.
    """
    encoder = Encoder(tokenizer, sequence_length)
    with DocumentWriter(folder) as writer:
        for batch in ahead(_batched(iter(records), RECORDS_AT_A_TIME), _BATCHES_AHEAD):
            encoder.write(batch, writer)
        return Tokenized(writer.finish(), encoder.census)


@dataclass
class Encoder:
    """Tokenizes records for sequences of one length."""

    tokenizer: Any
    sequence_length: int
    census: Census = field(default_factory=Census)

    def write(self, records: Sequence[Record], writer: DocumentWriter) -> None:
        """Adds some records to the documents."""
        pieces = iter(self._encoded([self._segments(record) for record in records]))
        for record, tokens in zip(records, pieces, strict=True):
            match record:
                case Passage():
                    self._write_passage(record, tokens, writer)
                case Completion():
                    self._write_sample(np.concatenate([self._beginning, tokens, self._end]), writer)
                case Conversation() | Utterance():
                    self._write_sample(tokens, writer)
                case _:
                    assert_never(record)

    def _segments(self, record: Record) -> list[Segment]:
        match record:
            case Passage():
                return [Segment(record.text, learnt=True)]
            case Completion():
                return [Segment(record.prompt, learnt=False), Segment(record.completion, learnt=True)]
            case Conversation():
                return self._template.segments(record)
            case Utterance():
                raise DataError(
                    f"{record.where}: a recording, but the model writes; set spec.dataset.records to text to train on "
                    "the transcripts, or use a model of speech"
                )
        assert_never(record)

    def _write_passage(self, passage: Passage, tokens: Stored, writer: DocumentWriter) -> None:
        if writer.inside_document:
            writer.add(tokens)
        elif passage.text.strip():
            writer.add(np.concatenate([self._beginning, tokens]))
        if passage.ends_document and writer.inside_document:
            writer.add(self._end)
            writer.end_document()
            self.census.documents += 1

    def _write_sample(self, sample: Stored, writer: DocumentWriter) -> None:
        room = self.sequence_length + 1
        fitting = fitted(sample, room)
        if not learnable(fitting):
            self.census.dropped += 1
            return
        self.census.truncated += len(sample) > room
        self.census.documents += 1
        # Nothing is learnt behind the last token that is learnt.
        writer.add(fitting[: 1 + int(np.flatnonzero(fitting >= 0)[-1])])
        writer.end_document()

    def _encoded(self, texts: Sequence[Sequence[Segment]]) -> Iterator[Stored]:
        """The tokens of each text; each segment is encoded on its own.

        So the tokens before an answer are those that the model will see when it is asked: no token reaches across.
        """
        flat = [(segment.text, number == 0) for text in texts for number, segment in enumerate(text) if segment.text]
        found = iter(self._ids(flat))
        for text in texts:
            parts = [stored(next(found), learnt=segment.learnt) for segment in text if segment.text]
            yield np.concatenate(parts) if parts else _NO_TOKENS

    def _ids(self, texts: Sequence[tuple[str, bool]]) -> list[list[int]]:
        """The tokens of texts, and whether each begins something."""
        if not texts:
            return []
        if not self._marks_beginnings:
            return self._tokens([text for text, _ in texts])
        # The mark that some tokenizers put before a text is wrong within one: it is cut off with a line break.
        found = self._tokens([text if begins else f"\n{text}" for text, begins in texts])
        cut = len(self._tokens(["\n"])[0])
        return [ids if begins else ids[cut:] for (_, begins), ids in zip(texts, found, strict=True)]

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        encoded: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return encoded

    @cached_property
    def _template(self) -> ChatTemplate:
        return ChatTemplate(self.tokenizer)

    @cached_property
    def _marks_beginnings(self) -> bool:
        """Whether a text has other tokens at a beginning than elsewhere, as with SentencePiece's dummy prefix."""
        whole, tail = self._tokens(["\na", "a"])
        return whole[-len(tail) :] != tail

    @cached_property
    def _beginning(self) -> Stored:
        """What the tokenizer itself puts before a document: some models expect it (Gemma, Llama)."""
        mark = self.tokenizer.bos_token_id
        found = [] if mark is None else self.tokenizer("a")["input_ids"][:1]
        return stored(found if found == [mark] else [], learnt=True)

    @cached_property
    def _end(self) -> Stored:
        return stored([self.tokenizer.eos_token_id], learnt=True)


def fitted(sample: Stored, room: int) -> Stored:
    """At most `room` tokens of a sample: its prompt is cut from the left, but not below half of the room.

    What then is still too much is cut from the right, as an answer is useless without its question.
    """
    excess = len(sample) - room
    if excess <= 0:
        return sample
    learnt = np.flatnonzero(sample >= 0)
    prompt = int(learnt[0]) if len(learnt) else len(sample)
    start = min(excess, max(0, prompt - room // 2))
    return sample[start : start + room]


def _batched(records: Iterator[Record], size: int) -> Iterator[list[Record]]:
    while batch := list(islice(records, size)):
        yield batch
