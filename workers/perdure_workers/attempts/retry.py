"""What comes after an attempt."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from perdure_api.conditions import Reason
from perdure_api.spec import RetrySpec
from perdure_api.status import AttemptCounters
from perdure_workers.attempts.outcome import Outcome
from perdure_workers.attempts.placement import UNPLACED

MAX_DISRUPTIONS: Final = 1000
"""A job that is taken away so often has a problem that another attempt will not solve."""
_DISRUPTION_PAUSE_SECONDS: Final = 1.0
_LONGEST_DISRUPTION_PAUSE_SECONDS: Final = 60.0

_DISRUPTED: Final = frozenset({Reason.DISRUPTED, Reason.JOB_DELETED, Reason.FENCED})
_AS_ASKED: Final = frozenset({Reason.SUSPENDED, Reason.REGROWN})
_COUNTED: Final = frozenset({Reason.FAILED, Reason.OUT_OF_MEMORY, Reason.OUT_OF_DISK, Reason.PEER_LOST, Reason.HUNG})


@dataclass(frozen=True)
class Again:
    """Another attempt."""

    after_seconds: float


@dataclass(frozen=True)
class GiveUp:
    """The job has failed."""

    reason: Reason
    message: str


@dataclass(frozen=True)
class GoOn:
    """The attempt did its work: next stage."""


Decision = Again | GiveUp | GoOn


def count(counters: AttemptCounters, outcome: Outcome) -> AttemptCounters:
    """The counters after an attempt has ended."""
    if outcome.reason in _DISRUPTED:
        return counters.model_copy(update={"disrupted": counters.disrupted + 1})
    if outcome.reason is Reason.SUSPENDED:
        return counters.model_copy(update={"suspended": counters.suspended + 1})
    if outcome.reason in UNPLACED:
        return counters.model_copy(update={"unplaced": counters.unplaced + 1})
    if outcome.completed or outcome.reason is Reason.REGROWN:
        return counters
    return counters.model_copy(update={"failed": counters.failed + 1})


def decide(outcome: Outcome, counters: AttemptCounters, retry: RetrySpec) -> Decision:
    """What comes next.

    Args:
        outcome: How the newest attempt ended.
        counters: Counts that include it.
        retry: The user's wish.
    """
    if outcome.completed:
        return GoOn()
    if outcome.reason in _AS_ASKED:
        return Again(0.0)
    if outcome.reason in _DISRUPTED:
        return _after_disruption(outcome, counters)
    if outcome.reason not in _COUNTED:
        return GiveUp(outcome.reason, outcome.message)
    if counters.failed >= retry.max_attempts:
        times = "its only attempt" if retry.max_attempts == 1 else f"all {retry.max_attempts} attempts"
        return GiveUp(Reason.MAX_ATTEMPTS_REACHED, f"{times} failed; the last one: {outcome.message}")
    return Again(backoff_seconds(counters.failed, retry))


def backoff_seconds(failures: int, retry: RetrySpec) -> float:
    """The wait after the n-th failure: initial · coefficient^(n-1), at most max. Seconds."""
    try:
        wait = retry.initial_interval_seconds * retry.backoff_coefficient ** (failures - 1)
    except OverflowError:
        wait = math.inf if retry.initial_interval_seconds else 0.0
    return min(float(retry.max_interval_seconds), wait)


def _after_disruption(outcome: Outcome, counters: AttemptCounters) -> Decision:
    if counters.disrupted >= MAX_DISRUPTIONS:
        return GiveUp(outcome.reason, f"taken away {counters.disrupted} times; the last time: {outcome.message}")
    doubled = _DISRUPTION_PAUSE_SECONDS * 2.0 ** min(counters.disrupted - 1, 10)
    return Again(min(_LONGEST_DISRUPTION_PAUSE_SECONDS, doubled))
