"""Suites as people write them, and what is said of those that are none."""

from __future__ import annotations

import json

import pytest

from perdure_workers.evaluation.suites import SuiteBroken, read_suite, suite_hash, with_ids

YAML = b"""
# What every release is asked.
cases:
  - prompt: Say yes.
    checks:
      - {contains: "yes", ignoreCase: true}
  - id: capital
    prompt: The capital of France?
    reference: Paris
"""
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(f"b{n}: [{'*a,' * 9}*a]\n" for n in range(20))


def test_a_suite_is_the_same_however_it_is_written() -> None:
    lines = [
        {"checks": [{"ignoreCase": True, "contains": "yes"}], "prompt": "Say yes."},
        {"id": "capital", "prompt": "The capital of France?", "reference": "Paris"},
    ]
    jsonl = "\n\n".join(json.dumps(line) for line in lines).encode()
    in_json = json.dumps({"maxNewTokens": 256, "cases": lines}).encode()

    suites = [read_suite("s.yaml", YAML), read_suite("s.jsonl", jsonl), read_suite("s.json", in_json)]

    assert suites[0] == suites[1] == suites[2]
    assert len({suite_hash(suite) for suite in suites}) == 1
    assert suite_hash(read_suite("s.yaml", YAML + b"maxNewTokens: 5")) != suite_hash(suites[0])


def test_cases_without_an_id_have_their_number() -> None:
    assert [id_ for id_, _ in with_ids(read_suite("s.yaml", YAML))] == ["1", "capital"]


def test_two_cases_of_one_id_are_refused() -> None:
    suite = read_suite("s.jsonl", b'{"prompt": "a", "reference": "b"}\n{"id": "1", "prompt": "a", "reference": "b"}')

    with pytest.raises(SuiteBroken, match="two cases have the id 1"):
        with_ids(suite)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("s.yaml", b"", "s.yaml holds a NoneType; expected a mapping with the field cases"),
        ("s.yaml", b"cases: []", "s.yaml, cases: List should have at least 1 item"),
        ("s.yaml", b"cases: [{prompt: a}]", "s.yaml, cases.0: found neither checks nor a reference"),
        ("s.yaml", b"cases: [{prompt: '', reference: a}]", "cases.0.prompt: it is empty"),
        ("s.yaml", b"cases: [{prompt: a, refrence: a, checks: [{json: true}]}]", "cases.0.refrence: Extra inputs"),
        ("s.yaml", b"cases: [{prompt: a, checks: [{contains: a, json: true}]}]", "expected exactly one of contains"),
        ("s.yaml", b"cases: [{prompt: a, checks: [{regex: '('}]}]", "it is no regular expression"),
        ("s.yaml", b"{", "s.yaml is neither YAML nor JSON"),
        ("s.yaml", BOMB.encode(), "s.yaml has 200 YAML aliases; expected at most 100"),
        ("s.json", b"[" * 100_000, "s.json is no JSON"),
        ("s.jsonl", b'{"prompt": "a", "reference": "b"}\n{', "s.jsonl, line 2: "),
        ("s.jsonl", b"\xff", "byte 0 is no UTF-8"),
    ],
    ids=[
        "empty",
        "no case",
        "no measure",
        "empty prompt",
        "typo",
        "two kinds",
        "regex",
        "yaml",
        "bomb",
        "deep",
        "line",
        "bytes",
    ],
)
def test_what_is_no_suite_is_refused_in_one_sentence(name: str, content: bytes, says: str) -> None:
    with pytest.raises(SuiteBroken) as raised:
        read_suite(name, content)

    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
