"""Evidence → outcome. Every pod here is one that a real cluster showed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from perdure_api.conditions import Reason
from perdure_workers.attempts.outcome import classify
from perdure_workers.watching.facts import PodFacts, pod_facts

PODS = Path(__file__).parents[1] / "fixtures" / "pods"


def pod(name: str, **status: Any) -> PodFacts:
    document = yaml.safe_load((PODS / f"{name}.yaml").read_text())
    document["status"].update(status)
    facts = pod_facts(document)
    assert facts is not None
    return facts


@pytest.mark.parametrize(
    ("name", "reason", "exit_code", "says"),
    [
        ("completed", Reason.COMPLETED, 0, "training completed"),
        ("exit-1", Reason.FAILED, 1, "exit code 1"),
        ("exit-64-with-message", Reason.PERMANENT_ERROR, 64, "bad flag"),
        ("log-as-message", Reason.FAILED, 3, "boom"),
        ("garbage-message", Reason.FAILED, 1, "that is no text"),
        ("command-not-found", Reason.CANNOT_START, 128, "no such file or directory"),
        ("out-of-memory", Reason.OUT_OF_MEMORY, 137, "spec.resources.memory"),
        ("out-of-memory-child-only", Reason.COMPLETED, 0, "training completed"),
        ("sigkill", Reason.FAILED, 137, "SIGKILL"),
        ("segv", Reason.FAILED, 139, "SIGSEGV"),
        ("deleted-while-running", Reason.DISRUPTED, 137, "was deleted while it ran"),
        ("evicted", Reason.DISRUPTED, 137, "Eviction API: evicting"),
    ],
)
def test_a_pod_that_ended_is_classified_by_what_the_cluster_shows(
    name: str, reason: Reason, exit_code: int, says: str
) -> None:
    outcome = classify(pod(name))

    assert (outcome.reason, outcome.exit_code) == (reason, exit_code)
    assert says in outcome.message


def test_an_exit_code_that_the_user_lists_is_permanent() -> None:
    assert classify(pod("log-as-message"), {3}).reason is Reason.PERMANENT_ERROR


@pytest.mark.parametrize(
    "cause", ["Evicted", "NodeLost", "OutOfcpu", "OutOfnvidia.com/gpu", "UnexpectedAdmissionError"]
)
def test_a_pod_that_its_node_ended_is_disrupted_not_failed(cause: str) -> None:
    facts = pod("exit-1", reason=cause, message="the node was low on something")

    outcome = classify(facts)

    assert outcome.reason is Reason.DISRUPTED
    assert "low on something" in outcome.message


def test_a_pod_that_vanished_without_a_word_is_disrupted() -> None:
    assert classify(pod("running")).reason is Reason.DISRUPTED


def test_the_containers_own_json_is_read() -> None:
    document = yaml.safe_load((PODS / "exit-1.yaml").read_text())
    state = document["status"]["containerStatuses"][0]["state"]["terminated"]
    state |= {"exitCode": 65, "message": '{"message":"line 3 is broken","step":12,"fromStep":10}'}
    facts = pod_facts(document)
    assert facts

    outcome = classify(facts)

    assert (outcome.reason, outcome.message) == (Reason.PERMANENT_ERROR, "line 3 is broken")
    assert (outcome.words.step, outcome.words.from_step) == (12, 10)
