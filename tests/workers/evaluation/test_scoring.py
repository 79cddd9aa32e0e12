"""Answers against what is expected of them."""

from __future__ import annotations

import pytest

from perdure_api.evals import Case, Check
from perdure_workers.evaluation import scoring
from perdure_workers.evaluation.scoring import check_problem, common_words, score


@pytest.mark.parametrize(
    ("check", "answer", "problem"),
    [
        (Check(contains="Paris"), "It is Paris.", None),
        (Check(contains="paris"), "It is Paris.", 'does not contain "paris"'),
        (Check(contains="STRASSE", ignore_case=True), "die Straße", None),
        (Check(equals="yes"), " yes\n", None),
        (Check(equals="yes"), "yes!", 'is "yes!"; expected "yes"'),
        (Check(regex=r"\b\d{4}\b"), "in 1969.", None),
        (Check(regex="^x"), "yx", "does not match ^x"),
        (Check(json=True), '```json\n{"a": 1}\n```', None),
        (Check(json=True), "[" * 100_000, "is no JSON"),
        (Check(json=True), "", "is no JSON"),
        (Check(json=False), "3", "is JSON"),
    ],
)  # fmt: skip
def test_a_check_tells_what_an_answer_lacks(check: Check, answer: str, problem: str | None) -> None:
    assert check_problem(check, answer) == problem


def test_a_pattern_that_finds_no_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "_REGEX_SECONDS", 0.01)

    problem = check_problem(Check(regex="(a|aa)+$"), "a" * 60 + "b")

    assert problem == "the pattern (a|aa)+$ finds no end within 0.01 s; make it simpler"


@pytest.mark.parametrize(
    ("answer", "reference", "likeness"),
    [
        ("The cat sat.", "the CAT, sat", 1.0),
        ("the cat", "the dog", 0.5),
        ("a a a b", "a b b", 4 / 7),
        ("nothing of it", "at all", 0.0),
        ("", "something", 0.0),
        ("!", "?", 1.0),
    ],
)
def test_likeness_is_f1_of_the_words_in_common(answer: str, reference: str, likeness: float) -> None:
    assert common_words(answer, reference) == pytest.approx(likeness)
    assert common_words(reference, answer) == pytest.approx(likeness)


def test_a_case_scores_the_mean_and_tells_the_first_problem() -> None:
    case = Case(prompt="?", checks=[Check(contains="a"), Check(contains="x")], reference="a b")

    scored = score(case, "a c")

    assert scored.score == pytest.approx((1 + 0 + 0.5) / 3)
    assert scored.problem == 'does not contain "x"'
