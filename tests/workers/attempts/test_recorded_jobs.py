"""What becomes of an attempt by its Job: every Job, pod and Event here is one that a real cluster showed.

`make evidence` records them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from perdure_api.conditions import Reason
from perdure_workers.attempts.assess import Ended, Waiting, assess, waited_seconds
from perdure_workers.watching.facts import JobFacts, PodFacts, job_facts, pod_facts
from perdure_workers.watching.index import AttemptView
from tests.workers.record import SITUATIONS

FIXTURES = Path(__file__).parents[1] / "fixtures"


def document(kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FIXTURES / kind / f"{name}.yaml").read_text())
    return found


def job(name: str) -> JobFacts:
    facts = job_facts(document("jobs", name))
    assert facts is not None
    assert not facts.foreign
    return facts


def pod(name: str) -> PodFacts:
    facts = pod_facts(document("pods", name))
    assert facts is not None
    assert not facts.foreign
    return facts


def look(name: str, *pods: PodFacts, ran: bool = False, refusal: str | None = None) -> Ended | Waiting:
    view = AttemptView(job(name), job_was_deleted=False, pods=pods, lost_pods=())
    assessment = assess(view, waited_seconds=10, start_seconds=60, ran=ran, refusal=refusal)
    assert isinstance(assessment, Ended | Waiting)
    return assessment


def test_every_situation_that_can_be_recorded_has_been() -> None:
    recorded = {path.stem for path in (FIXTURES / "jobs").glob("*.yaml")}

    assert recorded == SITUATIONS.keys()


@pytest.mark.parametrize(
    ("name", "reason", "says"),
    [
        ("complete", Reason.COMPLETED, "training completed; its pods are gone"),
        ("backoff-limit-exceeded", Reason.DISRUPTED, "left no trace (BackoffLimitExceeded: "),
        ("deadline-exceeded", Reason.DISRUPTED, "left no trace (DeadlineExceeded: "),
        ("pod-failure-policy", Reason.DISRUPTED, "left no trace (PodFailurePolicy: "),
        ("node-restarted", Reason.DISRUPTED, "left no trace (BackoffLimitExceeded: "),
    ],
)
def test_where_no_pod_is_left_to_tell_the_job_does(name: str, reason: Reason, says: str) -> None:
    assessment = look(name)

    assert isinstance(assessment, Ended)
    assert assessment.outcome.reason is reason
    assert says in assessment.outcome.message


@pytest.mark.parametrize(
    ("name", "reason", "exit_code", "says"),
    [
        ("complete", Reason.COMPLETED, 0, "training completed"),
        ("backoff-limit-exceeded", Reason.FAILED, 1, "exit code 1"),
        ("pod-failure-policy", Reason.FAILED, 42, "exit code 42"),
        ("node-restarted", Reason.DISRUPTED, 255, "lost the container of pod node-restarted-1-0"),
    ],
)
def test_what_its_pod_tells_counts_more_than_what_the_job_concludes(
    name: str, reason: Reason, exit_code: int, says: str
) -> None:
    assessment = look(name, pod(name), ran=True)

    assert isinstance(assessment, Ended)
    assert (assessment.outcome.reason, assessment.outcome.exit_code) == (reason, exit_code)
    assert says in assessment.outcome.message


def test_of_a_node_that_restarted_at_once_containerd_tells_neither_a_signal_nor_a_cause() -> None:
    """An exit code that a program may also choose: only the runtime's word shows that it did not."""
    end = pod("node-restarted").termination

    assert end
    assert (end.reason, end.exit_code, end.signal, pod("node-restarted").disruption) == ("Unknown", 255, 0, None)


def test_a_job_that_has_given_up_while_its_pod_still_ends_is_waited_for() -> None:
    name = "deadline-exceeded-pod-stopping"

    assessment = look(name, pod(name), ran=True)

    assert job(name).failed is None
    assert isinstance(assessment, Waiting)
    assert "can no longer run" in assessment.message


def test_a_job_that_was_suspended_while_it_ran_has_lost_its_attempt() -> None:
    assessment = look("suspended-while-it-ran", ran=True)

    assert isinstance(assessment, Ended)
    assert (assessment.outcome.reason, assessment.outcome.pod_remains) == (Reason.DISRUPTED, True)


def test_a_job_that_kueue_has_not_let_run_waits_for_it_and_no_time_passes() -> None:
    name = "suspended-from-the-start"

    assert look(name) == Waiting(Reason.QUEUED, "waiting for Kueue to let it run: queue research")
    assert waited_seconds(job(name), asked_at=0, now=1e12) == 0


def test_a_job_whose_pod_a_quota_refuses_says_so_in_an_event_alone() -> None:
    told = document("events", "quota-refused")
    facts = job("quota-refused")

    assessment = look("quota-refused", refusal=told["message"])

    assert (told["reason"], told["involvedObject"]["uid"]) == ("FailedCreate", facts.uid)
    assert (facts.failed, facts.completed, facts.suspended) == (None, False, False)
    assert isinstance(assessment, Waiting)
    assert assessment.reason is Reason.JOB_REFUSED
    assert "exceeded quota: no-gpus" in assessment.message
