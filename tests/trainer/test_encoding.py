"""With a tokenizer that has one token for each byte, so that tokens can be read."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from perdure_data.datasets import Completion, Conversation, Message, Passage, Record
from perdure_trainer.data.documents import Documents, stored, tokens_of
from perdure_trainer.data.encoding import Census, fitted, tokenize
from perdure_trainer.failures import DataError

CHATML = (
    "{% for message in messages %}<im>{{ message['role'] }}:{{ message['content'] }}</im>\n{% endfor %}"
    "{% if add_generation_prompt %}<im>assistant:{% endif %}"
)
MARKED = (
    "{% for message in messages %}<im>{{ message['role'] }}:{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] }}</im>{% endgeneration %}{% else %}{{ message['content'] }}</im>{% endif %}"
    "{{ '\n' }}{% endfor %}"
)
FORGETS = (
    "{% for message in messages %}<im>{{ message['role'] }}:"
    "{{ message['content'] if loop.last or message['role'] != 'assistant' else message['content'].upper() }}</im>\n"
    "{% endfor %}{% if add_generation_prompt %}<im>assistant:{% endif %}"
)
REFUSES = "{{ raise_exception('roles must alternate') }}"


def byte_tokenizer(template: str | None = None, *, begins: bool = False, dummy_prefix: bool = False) -> Any:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {
        "<end>": 0,
        "<im>": 1,
        "</im>": 2,
        "<begin>": 3,
        **{letter: i + 4 for i, letter in enumerate(letters)},
    }
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("a", "b")] if "ab" in vocabulary else []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=dummy_prefix, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    if begins:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<begin> $A", pair="<begin> $A $B", special_tokens=[("<begin>", 3)]
        )
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        eos_token="<end>",
        bos_token="<begin>",
        additional_special_tokens=["<im>", "</im>"],
    )
    fast.chat_template = template
    return fast


def talk(*turns: str) -> Conversation:
    names = {"S": "system", "U": "user", "A": "assistant"}
    return Conversation(tuple(Message(names[turn[0]], turn[1:]) for turn in turns), where=f"line {len(turns)}")


def read(documents: Documents, tokenizer: Any) -> list[str]:
    """Each document as text, with what is learnt in [brackets]."""
    found = []
    for start, end in pairwise([0, *documents.ends.tolist()]):
        text, inside = "", False
        for value in documents.stored[start:end]:
            learnt = bool(value >= 0)
            text += ("[" if learnt else "]") if learnt != inside else ""
            text += tokenizer.decode([int(tokens_of(np.asarray([value]))[0])])
            inside = learnt
        found.append(text + ("]" if inside else ""))
    return found


def encoded(records: list[Record], folder: Path, tokenizer: Any = None, length: int = 100) -> tuple[list[str], Census]:
    tokenizer = tokenizer or byte_tokenizer()
    result = tokenize(records, tokenizer, length, folder)
    return read(result.documents, tokenizer), result.census


def test_of_text_everything_is_learnt_and_each_document_ends(tmp_path: Path) -> None:
    records: list[Record] = [Passage("ab", ends_document=True), Passage("c", ends_document=True)]
    assert encoded(records, tmp_path)[0] == ["[ab<end>]", "[c<end>]"]


def test_passages_of_one_document_have_no_end_between(tmp_path: Path) -> None:
    records: list[Record] = [Passage("ab ", ends_document=False), Passage("c", ends_document=True)]
    assert encoded(records, tmp_path)[0] == ["[ab c<end>]"]


def test_a_document_whose_last_passage_is_white_space_ends_all_the_same(tmp_path: Path) -> None:
    records: list[Record] = [Passage("ab", ends_document=False), Passage("\n", ends_document=True)]
    assert encoded(records, tmp_path)[0] == ["[ab\n<end>]"]


def test_documents_of_white_space_are_left_out(tmp_path: Path) -> None:
    records: list[Record] = [Passage(text, ends_document=True) for text in ("a", " \n", "", "b")]
    assert encoded(records, tmp_path)[0] == ["[a<end>]", "[b<end>]"]


def test_no_records_are_no_documents(tmp_path: Path) -> None:
    assert encoded([], tmp_path)[0] == []


def test_of_a_completion_only_what_follows_the_prompt_is_learnt(tmp_path: Path) -> None:
    assert encoded([Completion("2+2=", "4")], tmp_path)[0] == ["2+2=[4<end>]"]


def test_a_completion_may_follow_nothing(tmp_path: Path) -> None:
    assert encoded([Completion("", "four")], tmp_path)[0] == ["[four<end>]"]


@pytest.mark.parametrize("template", [CHATML, MARKED], ids=["compared", "marked"])
def test_of_a_conversation_what_the_assistant_says_is_learnt(tmp_path: Path, template: str) -> None:
    conversation = talk("Sbe brief", "Uhi", "Ahello", "Ubye", "Asee you")
    (found,), _ = encoded([conversation], tmp_path, byte_tokenizer(template))
    assert found == (
        "<im>system:be brief</im>\n<im>user:hi</im>\n<im>assistant:[hello</im>]\n"
        "<im>user:bye</im>\n<im>assistant:[see you</im>]"
    )


@pytest.mark.parametrize("template", [CHATML, MARKED], ids=["compared", "marked"])
def test_nothing_is_read_behind_the_last_answer(tmp_path: Path, template: str) -> None:
    found, _ = encoded([talk("Uhi", "Ahello", "Uanyone there?")], tmp_path, byte_tokenizer(template))
    assert found == ["<im>user:hi</im>\n<im>assistant:[hello</im>]"]


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        pytest.param(None, "has no chat template; expected chat_template.jinja", id="none"),
        pytest.param(
            FORGETS, r"^line 4: .* turn 2 of a conversation of 4 otherwise.*put \{% generation %\}", id="forgets"
        ),
        pytest.param(
            REFUSES, r"^line 4: .*refuses a conversation \(roles must alternate\); its turns are user, a", id="refuses"
        ),
        pytest.param(
            f"{MARKED}{REFUSES}", r"^line 4: .*refuses a conversation \(roles must alt", id="refuses, with marks"
        ),
    ],
)
def test_a_chat_template_that_does_not_do_is_a_sentence(tmp_path: Path, template: str | None, sentence: str) -> None:
    conversation = talk("Uhi", "Ahello", "Ubye", "Asee you")
    with pytest.raises(DataError, match=sentence):
        encoded([conversation], tmp_path, byte_tokenizer(template))


def test_a_template_that_only_changes_what_is_behind_it_does(tmp_path: Path) -> None:
    found, _ = encoded([talk("Uhi", "Ahello")], tmp_path, byte_tokenizer(FORGETS))
    assert found == ["<im>user:hi</im>\n<im>assistant:[hello</im>]"]


def test_a_document_begins_as_the_tokenizer_wants_it(tmp_path: Path) -> None:
    records: list[Record] = [Passage("a", ends_document=False), Passage("b", ends_document=True)]
    begins = byte_tokenizer(begins=True)
    assert encoded(records, tmp_path, begins)[0] == ["[<begin>ab<end>]"]
    assert encoded([Completion("a", "b")], tmp_path, begins)[0] == ["[<begin>]a[b<end>]"]


def test_the_mark_of_a_texts_beginning_is_not_put_into_its_midst(tmp_path: Path) -> None:
    prefixing = byte_tokenizer(dummy_prefix=True)
    assert encoded([Completion("ab", "cd")], tmp_path, prefixing)[0] == [" ab[cd<end>]"]


def test_a_prompt_that_is_too_long_loses_its_beginning_and_is_counted(tmp_path: Path) -> None:
    found, census = encoded([Completion("0123456789", "ab"), Completion("0", "a")], tmp_path, length=8)
    assert found == ["456789[ab<end>]", "0[a<end>]"]
    assert census == Census(documents=2, truncated=1, dropped=0)


def test_an_answer_that_is_too_long_keeps_half_of_the_room_for_its_question(tmp_path: Path) -> None:
    found, census = encoded([Completion("0123456789", "abcdefghij")], tmp_path, length=8)
    assert found == ["6789[abcde]"]
    assert census.truncated == 1


def test_text_is_never_truncated(tmp_path: Path) -> None:
    found, census = encoded([Passage("x" * 50, ends_document=True)], tmp_path, length=8)
    assert found == [f"[{'x' * 50}<end>]"]
    assert census.truncated == 0


def test_a_conversation_without_an_answer_is_dropped_and_counted(tmp_path: Path) -> None:
    records: list[Record] = [talk("Uhi"), talk("Uhi", "Ahello")]
    found, census = encoded(records, tmp_path, byte_tokenizer(CHATML))
    assert (len(found), census) == (1, Census(documents=1, truncated=0, dropped=1))


@given(st.integers(0, 30), st.integers(1, 30), st.integers(9, 25))
def test_a_sample_that_was_cut_still_has_something_to_learn(prompt: int, answer: int, room: int) -> None:
    sample = np.concatenate([stored(np.arange(prompt), learnt=False), stored(np.arange(answer), learnt=True)])
    found = fitted(sample, room)
    assert len(found) == min(room, len(sample))
    assert (found >= 0).sum() >= min(answer, room // 2)


def test_an_error_in_the_data_comes_through(tmp_path: Path) -> None:
    def records() -> Iterator[Record]:
        yield Passage("a", ends_document=True)
        raise DataError("line 2 is broken")

    with pytest.raises(DataError, match="line 2 is broken"):
        tokenize(records(), byte_tokenizer(), 8, tmp_path)
