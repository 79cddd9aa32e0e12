"""From named fields to records, whichever format the fields come from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from perdure_api.spec import RecordFields
from perdure_data.datasets.errors import DatasetBroken
from perdure_data.datasets.records import Completion, Conversation, Message, Passage, Record, Utterance
from perdure_data.datasets.source import Source
from perdure_data.datasets.wording import names, shown, shown_value

ROLES: Final = ("system", "user", "assistant", "tool")
_DEFAULT_TEXT_FIELD: Final = "text"
_SAME_ROLE_ELSEWHERE: Final = {
    "human": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "ai": "assistant",
    "developer": "system",
    "function": "tool",
}


class RecordParser:
    """Makes the records of one source: the first of them decides which kind all are of."""

    def __init__(self, source: Source) -> None:
        self._fields_of = {
            RecordFields.MESSAGES: ("messages",),
            RecordFields.COMPLETION: ("prompt", "completion"),
            RecordFields.SPEECH: ("audio", source.text_field),
            RecordFields.TEXT: (source.text_field,),
        }
        self._asked = _asked(source)
        self._kind = self._asked

    @property
    def kind(self) -> RecordFields:
        """The kind of all records; AUTO as long as none was seen."""
        return self._kind

    def needed(self, where: str, found: Collection[str]) -> tuple[str, ...]:
        """Those of the fields at `where` that make its record.

        Raises:
            DatasetBroken: there is no such record in them, or more than one.
        """
        kinds = [kind for kind, fields in self._fields_of.items() if all(name in found for name in fields)]
        if self._asked is RecordFields.AUTO and RecordFields.SPEECH in kinds:
            # The text of a recording is its transcript, unless all was text before.
            kinds.remove(RecordFields.SPEECH if self._kind is RecordFields.TEXT else RecordFields.TEXT)
        if self._asked is RecordFields.AUTO and len(kinds) > 1:
            fields = [name for kind in kinds for name in self._fields_of[kind]]
            raise DatasetBroken(
                f"{where}: one record has the fields of {len(kinds)} kinds ({names(fields)}); set "
                f"spec.dataset.records to the one to train on: {' or '.join(kinds)}"
            )
        if self._kind is RecordFields.AUTO and kinds:
            self._kind = kinds[0]
        if self._kind not in kinds:
            raise DatasetBroken(f"{where}: {self._missing(found)}")
        return self._fields_of[self._kind]

    def record(self, where: str, fields: Mapping[str, Any]) -> Record:
        """The record of some fields.

        Raises:
            DatasetBroken: they are not what its kind needs; the message begins with `where`.
        """
        needed = self.needed(where, fields)
        match self._kind:
            case RecordFields.MESSAGES:
                return Conversation(_messages(where, fields["messages"]), where=where)
            case RecordFields.COMPLETION:
                return _completion(where, fields)
            case RecordFields.SPEECH:
                return _utterance(where, fields, *needed)
            case RecordFields.TEXT | RecordFields.AUTO:
                advice = " Set spec.dataset.textField to the field that holds the text"
                text = _string(f"{where}: field", fields, needed[0], advice)
                return Passage(text, ends_document=True, where=where)

    def _missing(self, found: Collection[str]) -> str:
        kind = RecordFields.TEXT if self._kind is RecordFields.AUTO else self._kind
        missing = next(name for name in self._fields_of[kind] if name not in found)
        told = f'field "{missing}" is missing (found {names(found)})'
        if kind is RecordFields.TEXT:
            others = (
                ""
                if self._kind is kind
                else ', or write "prompt" and "completion", or "messages", or "audio" and "text"'
            )
            return f"{told}; set spec.dataset.textField or rename it{others}"
        because = "the first one has it" if self._asked is RecordFields.AUTO else "spec.dataset.records says so"
        return f"{told}; every record must have it, as {because}"


def _asked(source: Source) -> RecordFields:
    """The kind that the spec asks for: to name a field of one's own is to ask for text."""
    named = source.records is RecordFields.AUTO and source.text_field != _DEFAULT_TEXT_FIELD
    return RecordFields.TEXT if named else source.records


def _completion(where: str, fields: Mapping[str, Any]) -> Completion:
    prompt, completion = (_string(f"{where}: field", fields, name) for name in ("prompt", "completion"))
    if not completion.strip():
        raise DatasetBroken(
            f'{where}: field "completion" is empty; only completions are learnt, so each must say something. Fill it '
            "in or drop the record"
        )
    return Completion(prompt, completion, where=where)


def _utterance(where: str, fields: Mapping[str, Any], audio_field: str, text_field: str) -> Utterance:
    audio, text = (_string(f"{where}: field", fields, name) for name in (audio_field, text_field))
    if not text.strip():
        raise DatasetBroken(
            f'{where}: field "{text_field}" is empty; it must say what is said in the recording. Fill it in or drop '
            "the record"
        )
    return Utterance(where, audio, text)


def _messages(where: str, found: Any) -> tuple[Message, ...]:
    if not isinstance(found, list) or not found:
        what = "empty" if found == [] else shown_value(found)
        raise DatasetBroken(
            f'{where}: field "messages" is {what}; it must be a list of messages such as '
            '{"role": "user", "content": "…"}'
        )
    messages = tuple(_message(f"{where}: messages[{index}]", each) for index, each in enumerate(found))
    if not any(message.role == "assistant" and message.content.strip() for message in messages):
        raise DatasetBroken(
            f"{where}: the assistant says nothing in these messages (found {_roles_of(messages)}); only what the "
            "assistant says is learnt. Add its answer or drop the record"
        )
    return messages


def _message(where: str, found: Any) -> Message:
    if not isinstance(found, dict):
        raise DatasetBroken(f"{where} is {shown_value(found)}; it must be an object with role and content")
    role = _string(f"{where}: field", found, "role")
    if role not in ROLES:
        same = _SAME_ROLE_ELSEWHERE.get(role.lower(), role.lower() if role.lower() in ROLES else None)
        rename = f'. Rename it to "{same}"' if same else ""
        raise DatasetBroken(
            f'{where}: role is "{shown(role)}"; expected {", ".join(ROLES[:-1])} or {ROLES[-1]}{rename}'
        )
    if found.get("tool_calls"):
        raise DatasetBroken(
            f"{where}: tool_calls are not trained on; write the call into content as the model is to write it, or "
            "drop the record"
        )
    return Message(role, _string(f"{where}: field", found, "content"))


def _roles_of(messages: tuple[Message, ...]) -> str:
    return names(tuple(dict.fromkeys(message.role for message in messages)))


def _string(what: str, fields: Mapping[str, Any], name: str, advice: str = "") -> str:
    if name not in fields:
        raise DatasetBroken(f'{what} "{name}" is missing (found {names(fields)}); each must have it')
    text = fields[name]
    if not isinstance(text, str):
        raise DatasetBroken(f'{what} "{name}" is {shown_value(text)}; it must be a string.{advice}')
    if not _encodable(text):
        raise DatasetBroken(
            f'{what} "{name}" holds half a surrogate pair, which is no character; write the data as valid UTF-8'
        )
    return text


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
