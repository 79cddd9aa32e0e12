from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from perdure_api.pod import TERMINATION_MESSAGE_LIMIT_BYTES, CheckpointRef, TerminationMessage


@given(st.text(max_size=TERMINATION_MESSAGE_LIMIT_BYTES))
def test_a_termination_message_of_any_length_fits_the_kubelets_limit_and_comes_back(text: str) -> None:
    message = TerminationMessage(message=text, step=7, checkpoint=CheckpointRef(uri="s3://b/c", step=5))

    encoded = message.encode()

    assert len(encoded.encode()) <= TERMINATION_MESSAGE_LIMIT_BYTES
    decoded = TerminationMessage.decode(encoded)
    assert (decoded.step, decoded.checkpoint) == (message.step, message.checkpoint)


def test_a_short_message_is_kept_whole() -> None:
    assert TerminationMessage.decode(TerminationMessage(message="all good").encode()).message == "all good"


def test_a_long_message_keeps_its_beginning_and_its_end() -> None:
    text = f"begin {'x' * 10_000} end"

    kept = TerminationMessage.decode(TerminationMessage(message=text).encode()).message

    assert kept.startswith("begin ")
    assert kept.endswith(" end")


def test_plain_text_becomes_the_sentence() -> None:
    assert TerminationMessage.decode("no space\n  left\x1b[0m").message == "no space left [0m"


def test_of_a_long_log_the_end_is_the_sentence() -> None:
    log = "\n".join(f'File "train.py", line {line}' for line in range(200)) + "\nValueError: rank must not be 0"

    sentence = TerminationMessage.decode(log).message

    assert sentence.startswith("… ")
    assert sentence.endswith("ValueError: rank must not be 0")
    assert len(sentence) < 700


def test_garbage_is_called_so() -> None:
    text = bytes(range(256)).decode(errors="replace") * 8

    assert "no text" in TerminationMessage.decode(text).message


@given(st.text())
def test_nothing_that_a_container_writes_breaks_the_reader(text: str) -> None:
    TerminationMessage.decode(text)


def test_json_of_another_kind_is_text() -> None:
    assert TerminationMessage.decode(json.dumps([1, 2])).message == "[1, 2]"


def test_fields_of_a_newer_trainer_are_ignored() -> None:
    assert TerminationMessage.decode('{"message":"m","brandNew":1}').message == "m"
