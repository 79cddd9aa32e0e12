"""Verdicts: what a gate lets through."""

from __future__ import annotations

import pytest

from perdure_api.evals import Answered, CaseResult, Compared, EvalDocument, Gate, Interval, Verdict
from perdure_workers.evaluation.statistics import Bootstrap
from perdure_workers.evaluation.verdicts import BaselineUnfit, compare, judge, overall

SUITE = "sha256:1"


def cases(*scores: float) -> list[CaseResult]:
    return [CaseResult(id=str(number), score=score) for number, score in enumerate(scores, 1)]


def baseline(*scores: float) -> EvalDocument:
    interval = Interval(low=0, high=1, confidence=0.95)
    verdict = Verdict(
        passed=True, reasons=[], n=len(scores), score=0, interval=interval, suite_hash=SUITE, model="file:///m",
        model_fingerprint="sha256:2", seconds=1,
    )  # fmt: skip
    return EvalDocument(
        verdict=verdict, cases=[Answered(id=each.id, score=each.score, answer="") for each in cases(*scores)]
    )


def test_a_baseline_is_compared_case_by_case() -> None:
    found = compare(cases(1, 1, 0, 1), SUITE, "old", baseline(1, 0, 1, 0), Bootstrap())

    assert (found.score, found.difference, found.better, found.worse) == (0.5, 0.25, 2, 1)
    assert found.interval.low < 0.25 < found.interval.high


def test_a_baseline_of_another_suite_is_refused() -> None:
    with pytest.raises(BaselineUnfit, match="the baseline old is of the suite sha256:1, this is sha256:9; evaluate"):
        compare(cases(1), "sha256:9", "old", baseline(1), Bootstrap())
    with pytest.raises(BaselineUnfit, match="has other cases"):
        compare(cases(1, 1), SUITE, "old", baseline(1), Bootstrap())


def compared(low: float) -> Compared:
    interval = Interval(low=low, high=0.2, confidence=0.95)
    return Compared(name="old", score=0.5, difference=0.01, interval=interval, better=3, worse=2)


@pytest.mark.parametrize(
    ("gate", "low", "passed", "reasons"),
    [
        (Gate(), 0.0, True, []),
        (Gate(min_score=0.8), 0.0, True, ["passed: the score is 0.8000; expected at least 0.8"]),
        (Gate(min_score=0.81), 0.0, False, ["failed: the score is 0.8000; expected at least 0.81"]),
        (Gate(max_loss=0.02), -0.02, True, None),
        (Gate(max_loss=0.02), -0.021, False, None),
        (Gate(max_loss=0.02, min_score=0.9), 0.0, False, None),
    ],
)
def test_a_gate_is_passed_when_all_its_conditions_hold(
    gate: Gate, *, low: float, passed: bool, reasons: list[str] | None
) -> None:
    found = judge(gate, 0.8, compared(low))

    assert found[0] is passed
    assert reasons is None or found[1] == reasons


def test_a_loss_that_may_be_too_large_is_told_with_its_numbers() -> None:
    assert judge(Gate(max_loss=0.02), 0.8, compared(-0.05))[1] == [
        "failed: the difference to old is +0.0100, and surely not below -0.0500 (95%); expected -0.02 or more"
    ]


def test_the_score_is_the_mean_with_its_interval() -> None:
    score, interval = overall(cases(1, 0, 1, 1), Bootstrap())

    assert score == 0.75
    assert interval.low < 0.75 < interval.high
