from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure_api.spec import RecordFields
from perdure_api.uri import parse_uri
from perdure_data.datasets import (
    Completion,
    Conversation,
    DatasetBroken,
    Message,
    Passage,
    Record,
    Source,
)
from perdure_data.datasets.fields import RecordParser

URI = parse_uri("s3://b/train.jsonl")
ASKED: dict[str, Any] = {"role": "user", "content": "2 + 2?"}
ANSWERED: dict[str, Any] = {"role": "assistant", "content": "4"}
TEXT = {"text": "a"}
PAIR = {"prompt": "a", "completion": "b"}
CHAT = {"messages": [ASKED, ANSWERED]}


def parse(*records: dict[str, Any], text_field: str = "text", kind: RecordFields = RecordFields.AUTO) -> list[Record]:
    parser = RecordParser(Source(URI, text_field=text_field, records=kind))
    return [parser.record(f"line {number}", fields) for number, fields in enumerate(records, 1)]


def refusal(*records: dict[str, Any], text_field: str = "text", kind: RecordFields = RecordFields.AUTO) -> str:
    with pytest.raises(DatasetBroken) as caught:
        parse(*records, text_field=text_field, kind=kind)
    assert len(str(caught.value)) < 300
    return str(caught.value)


@pytest.mark.parametrize(
    ("fields", "record"),
    [
        pytest.param(TEXT | {"id": 7}, Passage("a", ends_document=True), id="text"),
        pytest.param(PAIR | {"id": 7}, Completion("a", "b"), id="completion"),
        pytest.param(
            CHAT | {"prompt": "an id of the chat"},
            Conversation((Message("user", "2 + 2?"), Message("assistant", "4"))),
            id="messages",
        ),
    ],
)
def test_the_fields_of_the_first_record_decide(fields: dict[str, Any], record: Record) -> None:
    assert parse(fields, fields) == [record, record]


@pytest.mark.parametrize("fields", [TEXT, PAIR, CHAT, {"audio": "a.wav", "text": "a"}], ids=" ".join)
def test_every_record_knows_where_it_stands(fields: dict[str, Any]) -> None:
    assert [record.where for record in parse(fields, fields)] == ["line 1", "line 2"]


def test_a_named_text_field_says_that_text_it_is() -> None:
    assert parse(PAIR | CHAT, text_field="completion") == [Passage("b", ends_document=True)]


def test_an_empty_prompt_is_a_prompt() -> None:
    assert parse({"prompt": "", "completion": "b"}) == [Completion("", "b")]


@pytest.mark.parametrize(
    ("first", "other", "sentence"),
    [
        (TEXT, PAIR, 'line 2: field "text" is missing (found "prompt", "completion"); set spec.dataset.textField'),
        (CHAT, TEXT, 'line 2: field "messages" is missing (found "text"); every record must have it, as the first'),
        (PAIR, CHAT, 'line 2: field "prompt" is missing (found "messages"); every record must have it'),
    ],
    ids=["text first", "messages first", "completion first"],
)
def test_a_record_of_another_kind_than_the_first_is_named(
    first: dict[str, Any], other: dict[str, Any], sentence: str
) -> None:
    assert refusal(first, other).startswith(sentence)


@pytest.mark.parametrize(
    ("fields", "choice"),
    [
        (TEXT | CHAT, "messages or text"),
        (CHAT | PAIR, "messages or completion"),
        (TEXT | CHAT | PAIR, "messages or completion or text"),
    ],
    ids=["text and messages", "messages and completion", "all"],
)
def test_a_record_of_two_kinds_is_not_guessed_at(fields: dict[str, Any], choice: str) -> None:
    for records in ([fields], [CHAT, fields]):
        assert refusal(*records).endswith(f"set spec.dataset.records to the one to train on: {choice}")


@pytest.mark.parametrize(
    ("kind", "type_"),
    [(RecordFields.TEXT, Passage), (RecordFields.COMPLETION, Completion), (RecordFields.MESSAGES, Conversation)],
)
def test_the_spec_may_say_which_it_is(kind: RecordFields, type_: type[Record]) -> None:
    (record,) = parse(TEXT | CHAT | PAIR, kind=kind)
    assert isinstance(record, type_)


def test_what_the_spec_says_must_be_there() -> None:
    assert refusal(TEXT, kind=RecordFields.MESSAGES) == (
        'line 1: field "messages" is missing (found "text"); every record must have it, as spec.dataset.records says so'
    )


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        pytest.param(
            {"txt": "a"},
            'field "text" is missing (found "txt"); set spec.dataset.textField or rename it, or write "prompt"',
            id="missing",
        ),
        pytest.param({}, 'field "text" is missing (found no fields)', id="no fields"),
        pytest.param({"text": 17}, 'field "text" is a number (17); it must be a string', id="number"),
        pytest.param({"text": None}, 'field "text" is null; it must be a string', id="null"),
        pytest.param({"text": ["a"]}, 'field "text" is a list (["a"]); it must be a string', id="list"),
        pytest.param({"text": b"a"}, 'field "text" is binary data', id="binary"),
        pytest.param({"text": "\ud800"}, 'field "text" holds half a surrogate pair', id="surrogate"),
        pytest.param(PAIR | {"completion": " \n"}, 'field "completion" is empty', id="empty completion"),
        pytest.param(PAIR | {"prompt": [ASKED]}, 'field "prompt" is a list', id="prompt of messages"),
        pytest.param({"messages": []}, 'field "messages" is empty; it must be a list of messages', id="no messages"),
        pytest.param({"messages": "hi"}, 'field "messages" is a string ("hi")', id="messages are text"),
        pytest.param({"messages": None}, 'field "messages" is null', id="messages are null"),
        pytest.param({"messages": ["hi"]}, 'messages[0] is a string ("hi"); it must be an object', id="plain message"),
        pytest.param(
            {"messages": [{"role": "user"}, ANSWERED]},
            'messages[0]: field "content" is missing (found "role")',
            id="no content",
        ),
        pytest.param(
            {"messages": [{"content": "a"}]}, 'messages[0]: field "role" is missing (found "content")', id="no role"
        ),
        pytest.param(
            {"messages": [ASKED, {"role": "gpt", "content": "4"}]},
            'messages[1]: role is "gpt"; expected system, user, assistant or tool. Rename it to "assistant"',
            id="role of others",
        ),
        pytest.param(
            {"messages": [{"role": "narrator", "content": "4"}]},
            'messages[0]: role is "narrator"; expected system, user, assistant or tool',
            id="unknown role",
        ),
        pytest.param(
            {"messages": [ASKED, {"role": "assistant", "content": None}]},
            'messages[1]: field "content" is null',
            id="null content",
        ),
        pytest.param(
            {"messages": [ASKED, ANSWERED | {"tool_calls": [{"id": 1}]}]},
            "messages[1]: tool_calls are not trained on",
            id="tool calls",
        ),
        pytest.param(
            {"messages": [ASKED]}, 'the assistant says nothing in these messages (found "user")', id="no assistant"
        ),
        pytest.param(
            {"messages": [ASKED, {"role": "assistant", "content": " "}]},
            "the assistant says nothing",
            id="silent assistant",
        ),
    ],
)
def test_fields_that_are_wrong_are_named(fields: dict[str, Any], sentence: str) -> None:
    assert refusal(fields).replace("line 1: ", "", 1).startswith(sentence)


NAMES = st.sampled_from(["text", "prompt", "completion", "messages", "role", "content", "tool_calls"])
SCALARS = st.sampled_from([None, True, 7, 0.5, "", "a", "user", "assistant", "\ud800", b"a"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=10,
)


@given(st.lists(st.dictionaries(NAMES, VALUES, max_size=5), max_size=4))
def test_any_fields_are_records_or_refused_with_a_sentence(records: list[dict[str, Any]]) -> None:
    try:
        found = parse(*records)
    except DatasetBroken as error:
        said = str(error)
        assert said.startswith("line ")
    else:
        assert len({type(record) for record in found}) <= 1
