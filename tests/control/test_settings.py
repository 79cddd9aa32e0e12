from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from perdure_control.settings import PORTS, Environment, SettingsError

LEVELS = ("debug", "info")
Asks = Callable[[Environment], Any]


def environment(text: str | None) -> Environment:
    return Environment({} if text is None else {"A": text}, "operator")


@pytest.mark.parametrize(
    ("asks", "text", "expected"),
    [
        pytest.param(lambda read: read.required("A", "a name"), "x", "x", id="a text that there has to be"),
        pytest.param(lambda read: read.text("A", "y"), "x", "x", id="a text"),
        pytest.param(lambda read: read.text("A", "y"), "", "y", id="an empty text"),
        pytest.param(lambda read: read.choice("A", "info", LEVELS), "DEBUG", "debug", id="a word, however written"),
        pytest.param(lambda read: read.choice("A", "info", LEVELS), None, "info", id="no word"),
        pytest.param(lambda read: read.whole_number("A", 80, PORTS), "65535", 65535, id="a number"),
        pytest.param(lambda read: read.whole_number("A", 80, PORTS), "", 80, id="no number"),
        pytest.param(lambda read: read.names("A"), " b, a,,b ", ("b", "a"), id="names, each once"),
        pytest.param(lambda read: read.names("A"), None, (), id="no names"),
        pytest.param(lambda read: read.document("A", "a list"), "[1]", [1], id="a document"),
    ],
)
def test_a_variable_says_what_it_holds_and_an_empty_one_as_much_as_none(
    asks: Asks, text: str | None, expected: object
) -> None:
    assert asks(environment(text)) == expected


@pytest.mark.parametrize(
    ("asks", "text", "says"),
    [
        pytest.param(
            lambda read: read.required("A", "a name"),
            "",
            "A is not set, expected a name; set it in the operator's Deployment",
            id="nothing",
        ),
        pytest.param(
            lambda read: read.choice("A", "info", LEVELS),
            "Loud",
            'A is "Loud", expected one of debug, info; set it to one of these',
            id="another word",
        ),
        *(
            pytest.param(
                lambda read: read.whole_number("A", 80, PORTS),
                text,
                f'A is "{text}", expected a whole number from 1 to 65535; set it to one',
                id=f"no such number: {text}",
            )
            for text in ("0", "65536", "-1", "1.5", "٣", "http")
        ),
        pytest.param(lambda read: read.document("A", "a list"), "{", "A is no JSON (", id="no JSON"),
        pytest.param(lambda read: read.document("A", "a list"), "[" * 100_000, "A is no JSON (", id="a bomb"),
    ],
)
def test_what_a_variable_must_not_hold_is_refused_with_what_was_found_and_expected(
    asks: Asks, text: str, says: str
) -> None:
    with pytest.raises(SettingsError) as refusal:
        asks(environment(text))

    assert str(refusal.value).startswith(says)
