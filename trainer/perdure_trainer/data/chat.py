"""Conversations in the words of a model's own chat template, and which part of them the assistant says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from jinja2 import TemplateError

from perdure_data.datasets import Conversation, Message
from perdure_trainer.failures import DataError

_ASSISTANT: Final = "assistant"
_GENERATION: Final = re.compile(r"\{%-?\s*generation\s*-?%\}")
_MARK_IT: Final = "put {% generation %} and {% endgeneration %} around what the assistant says in the chat template"


@dataclass(frozen=True)
class Segment:
    """A piece of a text."""

    text: str
    learnt: bool


class ChatTemplate:
    """The chat template of a tokenizer.

    Raises:
        DataError: the tokenizer has none.
    """

    def __init__(self, tokenizer: Any) -> None:
        if not tokenizer.chat_template:
            raise DataError(
                "the dataset holds conversations, but the model's tokenizer has no chat template; expected "
                "chat_template.jinja beside the model or chat_template in its tokenizer_config.json. Add one, or use "
                "the instruct version of the model, or write the data as prompt and completion"
            )
        self._tokenizer = tokenizer
        self._says_who_speaks = bool(_GENERATION.search(str(tokenizer.chat_template)))

    def segments(self, conversation: Conversation) -> list[Segment]:
        """A whole conversation, in which the assistant's turns are learnt.

        Raises:
            DataError: the template refuses these messages, or does not show which part of them is the assistant's.
        """
        if self._says_who_speaks:
            return self._marked(conversation)
        return self._compared(conversation)

    def _marked(self, conversation: Conversation) -> list[Segment]:
        """By the template's own marks."""
        text, spans = self._render_marked(conversation)
        segments, place = [], 0
        for start, end in spans:
            segments += [Segment(text[place:start], learnt=False), Segment(text[start:end], learnt=True)]
            place = end
        return [*segments, Segment(text[place:], learnt=False)]

    def _compared(self, conversation: Conversation) -> list[Segment]:
        """By what a turn of the assistant adds to what stood before it.

        A template that renders a turn otherwise once others follow it (one that drops earlier thoughts, say) would
        make the model learn something that nobody sees.
        """
        messages = conversation.messages
        whole = self._render(conversation, messages)
        segments, place = [], 0
        for number, message in enumerate(messages):
            if message.role != _ASSISTANT:
                continue
            asked = self._render(conversation, messages[:number], add_generation_prompt=True)
            answered = self._render(conversation, messages[: number + 1])
            if not (answered.startswith(asked) and whole.startswith(answered) and len(asked) >= place):
                raise DataError(
                    f"{conversation.where}: the chat template renders turn {number + 1} of a conversation of "
                    f"{len(messages)} otherwise when it is not the last, so what the assistant says cannot be told "
                    f"from the rest; {_MARK_IT}"
                )
            end = len(asked) + self._spoken(answered[len(asked) :])
            segments += [
                Segment(whole[place : len(asked)], learnt=False),
                Segment(whole[len(asked) : end], learnt=True),
            ]
            place = end
        return [*segments, Segment(whole[place:], learnt=False)]

    def _spoken(self, turn: str) -> int:
        """How much of a turn the assistant writes: the line break behind an end mark comes from the template."""
        spoken = turn.rstrip()
        ended = any(spoken.endswith(mark) for mark in self._tokenizer.all_special_tokens)
        return len(spoken) if ended else len(turn)

    def _render(self, conversation: Conversation, messages: Sequence[Message], **options: bool) -> str:
        """The text of a conversation up to some turn."""
        try:
            text: str = self._tokenizer.apply_chat_template(_plain(messages), tokenize=False, **options)
        except (TemplateError, TypeError, ValueError) as error:
            raise _refused(conversation, error) from error
        return text

    def _render_marked(self, conversation: Conversation) -> tuple[str, list[tuple[int, int]]]:
        # Imported here: the public method of the tokenizer gives tokens only, cut where it likes.
        from transformers.utils.chat_template_utils import render_jinja_template  # noqa: PLC0415

        try:
            rendered: Any = render_jinja_template(
                conversations=[_plain(conversation.messages)],
                chat_template=self._tokenizer.get_chat_template(),
                return_assistant_tokens_mask=True,
                **self._tokenizer.special_tokens_map,
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise _refused(conversation, error) from error
        (text,), (spans,) = rendered
        return text, spans


def _plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _refused(conversation: Conversation, error: Exception) -> DataError:
    roles = ", ".join(message.role for message in conversation.messages)
    return DataError(
        f"{conversation.where}: the chat template of the model refuses a conversation ({error}); its turns are "
        f"{roles}. Bring the data into the shape that the template expects, or change the template"
    )
