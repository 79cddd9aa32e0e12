"""Scores, a baseline and a gate into a verdict."""

from __future__ import annotations

from collections.abc import Sequence

from perdure_api.evals import CaseResult, Compared, EvalDocument, Gate, Interval
from perdure_workers.evaluation.statistics import Bootstrap, Mean, mean, paired_difference


class BaselineUnfit(Exception):
    """A result cannot be compared with; the message says why."""


def overall(cases: Sequence[CaseResult], bootstrap: Bootstrap) -> tuple[float, Interval]:
    """The mean score, and where it lies."""
    found = mean([case.score for case in cases], bootstrap)
    return found.value, _interval(found, bootstrap)


def compare(
    cases: Sequence[CaseResult], suite_hash: str, name: str, baseline: EvalDocument, bootstrap: Bootstrap
) -> Compared:
    """How much better than a baseline, case by case.

    Raises:
        BaselineUnfit: that was of another suite.
    """
    if baseline.verdict.suite_hash != suite_hash:
        raise BaselineUnfit(
            f"the baseline {name} is of the suite {baseline.verdict.suite_hash}, this is {suite_hash}; evaluate the "
            f"baseline with this suite first"
        )
    theirs = {case.id: case.score for case in baseline.cases}
    if set(theirs) != {case.id for case in cases}:
        raise BaselineUnfit(f"the baseline {name} has other cases than its suite; evaluate it again")
    pairs = [(case.score, theirs[case.id]) for case in cases]
    found = paired_difference([ours for ours, _ in pairs], [their for _, their in pairs], bootstrap)
    return Compared(
        name=name,
        score=sum(theirs.values()) / len(theirs),
        difference=found.value,
        interval=_interval(found, bootstrap),
        better=sum(ours > their for ours, their in pairs),
        worse=sum(ours < their for ours, their in pairs),
    )


def judge(gate: Gate, score: float, compared: Compared | None) -> tuple[bool, list[str]]:
    """Whether a gate is passed, and why, a sentence for each of its conditions."""
    conditions: list[tuple[bool, str]] = []
    if gate.min_score is not None:
        fine = score >= gate.min_score
        conditions.append((fine, f"the score is {score:.4f}; expected at least {gate.min_score:g}"))
    if gate.max_loss is not None and compared is not None:
        low = compared.interval.low
        told = (
            f"the difference to {compared.name} is {compared.difference:+.4f}, and surely not below {low:+.4f} "
            f"({compared.interval.confidence:.0%}); expected {-gate.max_loss:+g} or more"
        )
        conditions.append((low >= -gate.max_loss, told))
    return all(fine for fine, _ in conditions), [
        f"{'passed' if fine else 'failed'}: {told}" for fine, told in conditions
    ]


def _interval(found: Mean, bootstrap: Bootstrap) -> Interval:
    return Interval(low=found.low, high=found.high, confidence=bootstrap.confidence)
