from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from perdure_api import names
from perdure_api.workflow import CheckpointRequest, Wishes
from perdure_operator.admission import Place, Turn
from perdure_operator.decision import (
    AskCheckpoint,
    Decision,
    Reject,
    Start,
    Step,
    TellFailure,
    TellPlace,
    TellWishes,
    Told,
    Wait,
    decide,
    with_finalizer,
    without_finalizer,
)
from perdure_operator.observation import Observation, observe

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
A_MINUTE_AGO = "2026-11-22T11:59:00Z"
SPEC = {"trainer": {"image": "x", "command": ["true"]}}


def seen(*, metadata: dict[str, Any] | None = None, status: dict[str, Any] | None = None, **spec: Any) -> Observation:
    return observe(
        {
            "metadata": {"name": "tj", "namespace": "ml", "uid": "u", "generation": 1, **(metadata or {})},
            "spec": {**SPEC, **spec},
            "status": status or {},
        }
    )


def condition(type_: str, status: str, reason: str = "R") -> dict[str, Any]:
    return {"type": type_, "status": status, "reason": reason, "lastTransitionTime": A_MINUTE_AGO}


RUNNING = {"conditions": [condition("Accepted", "True"), condition("Succeeded", "Unknown")]}
SUCCEEDED = {"observedGeneration": 1, "completionTime": A_MINUTE_AGO, "conditions": [condition("Succeeded", "True")]}
WITHOUT_GENERATION = {name: value for name, value in SUCCEEDED.items() if name != "observedGeneration"}
WITHOUT_TIME = {
    "observedGeneration": 1,
    "conditions": [{**condition("Succeeded", "True"), "lastTransitionTime": "once"}],
}
FAILED = {**SUCCEEDED, "conditions": [condition("Succeeded", "False")]}
STILL_WAITING = {
    **SUCCEEDED,
    "conditions": [condition("Succeeded", "True"), condition("Reconciling", "True", "TemporalUnavailable")],
}
HELD = {"finalizers": ["somebody/else", names.FINALIZER]}
DELETED = {"deletionTimestamp": A_MINUTE_AGO}
FORCED = {"annotations": {names.ANNOTATION_FORCE_DELETE: "true"}}
CANCELLED = {"annotations": {names.ANNOTATION_CANCEL: "true"}}
ASKED = {"annotations": {names.ANNOTATION_CHECKPOINT: "why"}}
AT_LENGTH = CheckpointRequest(id="why " * 10_000)
ASKED_AT_LENGTH = {"annotations": {names.ANNOTATION_CHECKPOINT: "why " * 10_000}}
IN_A_MINUTE = NOW + timedelta(minutes=1)


@pytest.mark.parametrize(
    ("observation", "started", "expected"),
    [
        (seen(status=RUNNING), True, Step.REST),
        (seen(status=SUCCEEDED), False, Step.REST),
        (seen(status=FAILED), False, Step.REST),
        (seen(status=SUCCEEDED, ttlSecondsAfterFinished=60), False, Step.EXPIRE),
        (seen(status=FAILED, ttlSecondsAfterFinished=0), False, Step.EXPIRE),
        (seen(status=SUCCEEDED, ttlSecondsAfterFinished=120), False, Wait(IN_A_MINUTE)),
        (seen(status=RUNNING, ttlSecondsAfterFinished=0), True, Step.REST),
        (seen(status=SUCCEEDED, metadata={"generation": 2}), False, Step.ACKNOWLEDGE),
        (seen(status={**SUCCEEDED, "observedGeneration": 0}), False, Step.ACKNOWLEDGE),
        (seen(status=WITHOUT_GENERATION), False, Step.ACKNOWLEDGE),
        (seen(status=WITHOUT_TIME, ttlSecondsAfterFinished=0), False, Step.REST),
        (seen(status=STILL_WAITING), False, Step.TAKE_BACK),
        (
            seen(status=SUCCEEDED, metadata={"generation": 2}, ttlSecondsAfterFinished=60),
            False,
            Step.EXPIRE,
        ),
        (seen(metadata=DELETED), False, Step.REST),
        (seen(metadata={**DELETED, "finalizers": ["somebody/else"]}), True, Step.REST),
        (seen(metadata={**DELETED, **HELD}), True, Step.END),
        (seen(metadata={**DELETED, **HELD}, status=SUCCEEDED), False, Step.END),
        (seen(metadata={**DELETED, **HELD, **FORCED}), True, Step.RELEASE),
        (seen(metadata={**HELD, **FORCED}), True, Step.REST),
        (seen(rank=3, status=RUNNING), False, Step.REST),
        (seen(metadata=CANCELLED, status=RUNNING), True, Step.CANCEL),
        (seen(metadata=CANCELLED, status=SUCCEEDED), True, Step.REST),
        (seen(metadata={**CANCELLED, "generation": 2}, status=RUNNING, suspend=True), True, Step.CANCEL),
        (
            seen(metadata={"generation": 2}, status=RUNNING, suspend=True),
            True,
            TellWishes(Wishes(generation=2, suspend=True, kueue_queue="")),
        ),
        (seen(metadata={"generation": 3}, status=RUNNING), True, TellWishes(Wishes(generation=3, kueue_queue=""))),
        (seen(metadata={"generation": 3}, status={**RUNNING, "observedGeneration": 3}), True, Step.REST),
        (seen(metadata=ASKED, status=RUNNING), True, AskCheckpoint(CheckpointRequest(id="why", reason="why"))),
        (seen(metadata=ASKED, status=SUCCEEDED), True, Step.REST),
    ],
    ids=[
        "running: the workflow has it",
        "succeeded: for good",
        "failed: for good",
        "its time to live is over",
        "no time to live at all",
        "its time to live goes on",
        "the time to live counts from the end",
        "changed after the end",
        "its generation was never seen",
        "nobody said which generation was seen",
        "nobody knows when it finished: it is kept",
        "finished, but it still says that it waits",
        "changed after the end, but due",
        "deleted before it was taken up",
        "deleted, held by others",
        "deleted while it runs",
        "deleted after the end",
        "deleted by force",
        "force without deletion is none",
        "its spec is foreign, but a workflow runs with it",
        "cancelled",
        "cancelled after the end",
        "cancelled: nothing else matters",
        "suspended while it runs",
        "changed again",
        "changed, and its workflow knows",
        "a checkpoint is wanted",
        "a checkpoint is wanted after the end",
    ],
)
def test_decision(observation: Observation, started: bool, expected: Decision) -> None:  # noqa: FBT001
    assert decide(observation, started=started, now=NOW) == expected


FAILING = {
    "conditions": [condition("Accepted", "True"), condition("Reconciling", "True", "WorkflowFailing")],
}


@pytest.mark.parametrize(
    ("seen", "failure", "expected"),
    [
        (seen(status=RUNNING), "a bug", TellFailure("a bug")),
        (seen(status=FAILING), "a bug", Step.REST),
        (seen(status=FAILING), None, Step.REST),
        (seen(status=FAILING), "", Step.GOES_ON),
        (seen(status=RUNNING), "", Step.REST),
        (seen(status=SUCCEEDED), "a bug", Step.REST),
        (seen(metadata={**HELD, **DELETED}, status=RUNNING), "a bug", Step.END),
        (seen(metadata=CANCELLED, status=FAILING), "a bug", Step.CANCEL),
    ],
    ids=[
        "it fails",
        "that is told",
        "told, and nobody has looked since",
        "it does not any more",
        "it never did",
        "finished",
        "deleted",
        "cancelled",
    ],
)
def test_that_the_code_of_a_workflow_fails_is_told_once_and_taken_back(
    seen: Observation, failure: str | None, expected: Decision
) -> None:
    assert decide(seen, started=True, now=NOW, failure=failure) == expected


OF_KUEUE = {"labels": {names.LABEL_KUEUE_QUEUE: "research"}}
SPOKEN = {**RUNNING, "observedGeneration": 1, "workflow": {"id": "trainingjob/ml/tj/u"}}


@pytest.mark.parametrize(
    ("seen", "told", "queue"),
    [
        (seen(metadata=OF_KUEUE, status=SPOKEN), Told(), "research"),
        (seen(metadata=OF_KUEUE, status={**SPOKEN, "kueueQueue": "other"}), Told(), "research"),
        (seen(status={**SPOKEN, "kueueQueue": "other"}), Told(), ""),
        (seen(metadata=OF_KUEUE, status={**SPOKEN, "kueueQueue": "research"}), Told(), None),
        (seen(status=SPOKEN), Told(), None),
        (seen(metadata=OF_KUEUE, status=RUNNING), Told(), None),
        (seen(metadata=OF_KUEUE, status=SPOKEN), Told(kueue_queue="research"), None),
        (seen(status={**SPOKEN, "kueueQueue": "other"}), Told(kueue_queue=""), None),
        (seen(status=SPOKEN), Told(kueue_queue="research"), ""),
    ],
    ids=[
        "set",
        "another one",
        "taken away",
        "as it was",
        "none as ever",
        "its workflow has not spoken yet: it was started with it",
        "set, and told",
        "taken away, and told",
        "set, told, and taken away again",
    ],
)
def test_a_queue_of_kueue_that_changes_is_told_to_the_workflow_once(
    seen: Observation, told: Told, queue: str | None
) -> None:
    expected = Step.REST if queue is None else TellWishes(Wishes(generation=1, kueue_queue=queue))

    assert decide(seen, started=True, now=NOW, told=told) == expected


@pytest.mark.parametrize(
    ("observation", "told"),
    [
        (seen(metadata=CANCELLED, status=RUNNING), Told(cancelled=True)),
        (seen(metadata={"generation": 2}, status=RUNNING, suspend=True), Told(generation=2)),
        (seen(metadata=ASKED, status=RUNNING), Told(checkpoint_request="why")),
        (seen(metadata=ASKED_AT_LENGTH, status=RUNNING), Told(checkpoint_request=AT_LENGTH.id)),
    ],
    ids=["cancelled", "suspended", "a checkpoint is wanted", "a checkpoint is wanted, at length"],
)
def test_a_workflow_is_told_once(observation: Observation, told: Told) -> None:
    assert decide(observation, started=True, now=NOW, told=told) is Step.REST


LIMITS = "at most 4 run at a time (limits.maxConcurrentJobs)"
PLACE = Place(7, LIMITS)


def queued(position: int, limits: str = LIMITS, generation: int = 1) -> dict[str, Any]:
    return {
        "observedGeneration": generation,
        "conditions": [condition("Reconciling", "True", "Queued")],
        "message": f"waiting for its turn: number {position} in line; {limits}",
        "queue": {"position": position},
    }


ASLEEP = {"observedGeneration": 2, "conditions": [condition("Accepted", "True"), condition("Suspended", "True")]}
LEFT_BEHIND = {**RUNNING, "queue": {"position": 1}}


@pytest.mark.parametrize(
    ("observation", "turn", "expected"),
    [
        (seen(), PLACE, TellPlace(PLACE)),
        (seen(), Turn.UNKNOWN, Step.REST),
        (seen(status=queued(7)), PLACE, Step.REST),
        (seen(status=queued(9)), PLACE, Step.REST),
        (seen(status=queued(14)), PLACE, TellPlace(PLACE)),
        (seen(status=queued(7, "at most 3 run")), PLACE, TellPlace(PLACE)),
        (seen(status=queued(7), metadata={"generation": 2}), PLACE, TellPlace(PLACE)),
        (seen(status=queued(7), metadata=CANCELLED), PLACE, Step.WITHDRAW),
        (seen(metadata=DELETED), PLACE, Step.REST),
        (seen(status=queued(1)), Turn.COME, Step.LEAVE_QUEUE),
        (seen(status=LEFT_BEHIND), Turn.COME, Step.LEAVE_QUEUE),
        (seen(status={**SUCCEEDED, "queue": {"position": 1}}), Turn.COME, Step.TAKE_BACK),
        (seen(status=ASLEEP, metadata={**HELD, "generation": 3}), PLACE, TellPlace(PLACE)),
        (seen(status=ASLEEP, metadata={**HELD, "generation": 3}), Turn.UNKNOWN, Step.REST),
        (
            seen(status=ASLEEP, metadata={**HELD, "generation": 3}),
            Turn.COME,
            TellWishes(Wishes(generation=3, kueue_queue="")),
        ),
        (seen(status={**ASLEEP, **queued(7, generation=2)}, metadata={**HELD, "generation": 4}), PLACE, Step.REST),
        (seen(status=ASLEEP, metadata={**HELD, **CANCELLED}), PLACE, Step.CANCEL),
    ],
    ids=[
        "new, and others go first",
        "new, and nobody has looked yet",
        "its place is told",
        "its place is told well enough",
        "it has come half way",
        "other limits by now",
        "changed while it waits",
        "cancelled while it waits",
        "deleted while it waits",
        "its turn has come",
        "goes on, but a place is still told",
        "finished, but a place is still told",
        "resumed, and others go first",
        "resumed, and nobody has looked yet",
        "resumed, and its turn has come",
        "resumed, and changed while it waits: its workflow will be told",
        "resumed, and cancelled while it waits",
    ],
)
def test_a_job_goes_on_when_its_turn_has_come(observation: Observation, turn: Turn | Place, expected: Decision) -> None:
    assert decide(observation, started=True, now=NOW, turn=turn) == expected


def test_what_is_wrong_with_a_spec_is_told_before_its_turn() -> None:
    assert isinstance(decide(seen(rank=3), started=False, now=NOW, turn=PLACE), Reject)


@pytest.mark.parametrize("status", [{}, RUNNING], ids=["new", "resumed"])
def test_an_object_that_goes_on_is_started_with_its_spec(status: dict[str, Any]) -> None:
    decision = decide(seen(status=status), started=False, now=NOW)

    assert isinstance(decision, Start)
    assert decision.spec.trainer is not None
    assert decision.spec.trainer.command == ["true"]


def test_a_new_object_with_a_foreign_field_is_rejected_by_its_name() -> None:
    decision = decide(seen(rank=3), started=False, now=NOW)

    assert isinstance(decision, Reject)
    assert "spec.rank" in decision.problem


def test_without_a_completion_time_the_condition_tells_when_it_finished() -> None:
    status = {"observedGeneration": 1, "conditions": [condition("Succeeded", "True")]}

    decision = decide(seen(status=status, ttlSecondsAfterFinished=120), started=False, now=NOW)

    assert decision == Wait(IN_A_MINUTE)


def test_our_finalizer_is_put_beside_others_and_taken_from_among_them() -> None:
    assert with_finalizer(("somebody/else",)) == ["somebody/else", names.FINALIZER]
    assert without_finalizer(("somebody/else", names.FINALIZER, "another/one")) == ["somebody/else", "another/one"]
