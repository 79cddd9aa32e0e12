from __future__ import annotations

import pytest

from perdure_api.conditions import Condition, ConditionStatus, ConditionType, Phase, Reason, is_terminal, phase_of

TRUE, FALSE, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN


def condition(type_: ConditionType, status: ConditionStatus, reason: Reason = Reason.STARTING) -> Condition:
    return Condition(type=type_, status=status, reason=reason, last_transition_time="2026-01-01T00:00:00Z")


def succeeded(status: ConditionStatus) -> Condition:
    return condition(ConditionType.SUCCEEDED, status)


def running(status: ConditionStatus, reason: Reason = Reason.STARTING) -> Condition:
    return condition(ConditionType.RUNNING, status, reason)


def reconciling(status: ConditionStatus, reason: Reason) -> Condition:
    return condition(ConditionType.RECONCILING, status, reason)


def suspended(status: ConditionStatus) -> Condition:
    return condition(ConditionType.SUSPENDED, status, Reason.SUSPENDED)


ACCEPTED = condition(ConditionType.ACCEPTED, TRUE)


@pytest.mark.parametrize(
    ("conditions", "phase"),
    [
        ([], Phase.PENDING),
        ([ACCEPTED, succeeded(UNKNOWN)], Phase.PENDING),
        ([running(FALSE)], Phase.STARTING),
        ([running(UNKNOWN)], Phase.STARTING),
        ([running(FALSE, Reason.JOB_REFUSED), succeeded(UNKNOWN)], Phase.STARTING),
        ([running(TRUE, Reason.POD_RUNNING), succeeded(UNKNOWN)], Phase.RUNNING),
        ([running(FALSE, Reason.RETRYING), succeeded(UNKNOWN)], Phase.RETRYING),
        ([running(FALSE, Reason.QUEUED), succeeded(UNKNOWN)], Phase.QUEUED),
        ([running(FALSE, Reason.FINISHED), succeeded(UNKNOWN)], Phase.RUNNING),
        ([running(TRUE), succeeded(TRUE)], Phase.SUCCEEDED),
        ([running(TRUE), succeeded(FALSE)], Phase.FAILED),
        ([succeeded(FALSE)], Phase.FAILED),
        ([reconciling(TRUE, Reason.QUEUED)], Phase.QUEUED),
        ([reconciling(TRUE, Reason.QUEUED), suspended(TRUE), running(FALSE, Reason.SUSPENDED)], Phase.QUEUED),
        ([reconciling(FALSE, Reason.QUEUED), suspended(TRUE)], Phase.SUSPENDED),
        ([reconciling(TRUE, Reason.QUEUED), succeeded(FALSE)], Phase.FAILED),
    ],
    ids=[
        "nothing said yet",
        "accepted",
        "an attempt starts",
        "nobody knows whether it runs",
        "its Job is refused",
        "it runs",
        "it waits for its next attempt",
        "Kueue has no room for it yet",
        "its result is waited for",
        "succeeded, whatever a late monitor says",
        "failed, whatever a late monitor says",
        "failed before any attempt",
        "it waits for its turn",
        "resumed, it waits for its turn",
        "suspended, and no longer in line",
        "failed, whatever is still said of a line",
    ],
)
def test_conditions_amount_to_a_phase(conditions: list[Condition], phase: Phase) -> None:
    assert phase_of(conditions) is phase
    assert phase_of(reversed(conditions)) is phase


@pytest.mark.parametrize(
    ("conditions", "terminal"),
    [
        ([], False),
        ([succeeded(UNKNOWN)], False),
        ([ACCEPTED, running(FALSE)], False),
        ([ACCEPTED, succeeded(TRUE)], True),
        ([ACCEPTED, succeeded(FALSE)], True),
    ],
)
def test_only_an_answer_is_final(conditions: list[Condition], *, terminal: bool) -> None:
    assert is_terminal(conditions) is terminal
