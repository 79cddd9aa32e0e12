from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from perdure_api import names
from perdure_operator.admission import EXACT_POSITIONS, Claim, Limits, Slot, plan, slot_of, worth_telling
from perdure_operator.observation import Observation, observe

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def claim(
    name: str, *, held: bool = False, priority: int = 0, after: timedelta = timedelta(), namespace: str = "ml"
) -> Claim:
    return Claim(uid=name, namespace=namespace, name=name, priority=priority, created=NOON + after, held=held)


def running(name: str, namespace: str = "ml") -> Claim:
    return claim(name, held=True, namespace=namespace)


@pytest.mark.parametrize(
    ("claims", "limits", "admitted", "positions"),
    [
        ([claim("b"), claim("a")], Limits(cluster=2), ["a", "b"], {}),
        (
            [claim("run-10"), claim("run-9b"), claim("run-9"), claim("9")],
            Limits(cluster=9),
            ["9", "run-9", "run-9b", "run-10"],
            {},
        ),
        ([claim("late", after=HOUR), claim("early")], Limits(cluster=1), ["early"], {"late": 1}),
        (
            [claim("early"), claim("urgent", priority=1, after=HOUR), claim("idle", priority=-1)],
            Limits(cluster=1),
            ["urgent"],
            {"early": 1, "idle": 2},
        ),
        (
            [claim("old"), claim("new", priority=1, after=25 * HOUR)],
            Limits(cluster=1),
            ["old"],
            {"new": 1},
        ),
        ([running("r"), claim("w")], Limits(cluster=1), [], {"w": 1}),
        ([running("r"), running("s"), claim("w")], Limits(cluster=1), [], {"w": 1}),
        ([claim("w")], Limits(cluster=0), [], {"w": 1}),
        (
            [running("r"), claim("w"), claim("v"), claim("x", namespace="nlp")],
            Limits(namespace=1),
            ["x"],
            {"v": 1, "w": 2},
        ),
        (
            [running("r"), claim("w"), running("s", "nlp"), claim("x", namespace="nlp")],
            Limits(namespace=1),
            [],
            {"w": 1, "x": 1},
        ),
        (
            [running("r"), claim("w"), claim("x", namespace="nlp"), claim("y", namespace="nlp")],
            Limits(cluster=2, namespace=1),
            ["x"],
            {"w": 1, "y": 2},
        ),
        (
            [running("r"), claim("w"), running("s", "nlp"), claim("x", namespace="nlp"), claim("y", namespace="cv")],
            Limits(namespace=1, namespaces={"ml": 2, "cv": 0}),
            ["w"],
            {"x": 1, "y": 1},
        ),
        ([running("r"), claim("x", namespace="nlp")], Limits(namespaces={"ml": 1}), ["x"], {}),
        ([running("r"), claim("w")], Limits(), ["w"], {}),
    ],
    ids=[
        "room for all: by name within a second",
        "numbers within names count as numbers",
        "first come, first served",
        "priority before age",
        "a day in line is worth a point",
        "all slots are held",
        "more run than the limit allows by now",
        "none may run",
        "a namespace at its limit holds no other up",
        "each namespace has its line",
        "one line where the cluster has a limit, and who cannot go is passed over",
        "a namespace of its own limit",
        "a namespace without any limit",
        "no limit",
    ],
)
def test_who_may_go_on(claims: list[Claim], limits: Limits, admitted: list[str], positions: dict[str, int]) -> None:
    for order in (claims, claims[::-1]):
        planned = plan(order, limits)
        assert planned.admitted == admitted
        assert planned.positions == positions


def test_nobody_is_overtaken_for_ever() -> None:
    """A job of the lowest priority, and every hour another of a high one, in front of one slot that is always free."""
    waiting = [claim("patient", priority=0)]
    for hour in range(24 * 11):
        waiting.append(claim(f"urgent-{hour}", priority=10, after=hour * HOUR))
        (first,) = plan(waiting, Limits(cluster=1)).admitted
        waiting = [each for each in waiting if each.uid != first]
        if first == "patient":
            break

    assert hour == 24 * 10


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        (Limits(cluster=4), "at most 4 run at a time (limits.maxConcurrentJobs)"),
        (Limits(namespace=2), "at most 2 run at a time in namespace ml (limits.maxConcurrentJobsPerNamespace)"),
        (
            Limits(cluster=4, namespace=2, namespaces={"ml": 3}),
            "at most 4 run at a time (limits.maxConcurrentJobs), 3 in namespace ml (limits.namespaces.ml)",
        ),
        (Limits(cluster=4, namespaces={"nlp": 3}), "at most 4 run at a time (limits.maxConcurrentJobs)"),
    ],
    ids=["cluster", "each namespace", "cluster and this namespace", "another namespace"],
)
def test_limits_are_told_with_the_values_that_set_them(limits: Limits, sentence: str) -> None:
    assert limits.sentence("ml") == sentence


def test_first_ones_are_told_exactly_and_others_when_they_have_come_half_way() -> None:
    told, tellings = None, []
    for position in range(500, 0, -1):
        if worth_telling(told, position):
            told = position
            tellings.append(position)

    assert tellings == [500, 250, 125, 62, 31, 15, 7, 5, 4, 3, 2, 1]
    assert worth_telling(EXACT_POSITIONS, EXACT_POSITIONS + 1)
    assert not worth_telling(100, 199)
    assert worth_telling(100, 200)


def condition(type_: str, status: str, reason: str) -> dict[str, Any]:
    return {"type": type_, "status": status, "reason": reason, "lastTransitionTime": "2026-11-22T12:00:00Z"}


def seen(*conditions: dict[str, Any], begun: bool = True, deleting: bool = False, **spec: Any) -> Observation:
    deletion = {"deletionTimestamp": "2026-11-22T12:00:00Z"} if deleting else {}
    return observe(
        {
            "metadata": {
                "name": "tj",
                "namespace": "ml",
                "uid": "u",
                "finalizers": [names.FINALIZER] if begun else [],
                **deletion,
            },
            "spec": spec,
            "status": {"conditions": list(conditions)},
        }
    )


SUSPENDED = condition("Suspended", "True", "Suspended")
RESUMED = condition("Suspended", "False", "Resumed")
TURN_HAS_COME = condition("Reconciling", "True", "Resumed")
SUCCEEDED = condition("Succeeded", "True", "Completed")


@pytest.mark.parametrize(
    ("observation", "given", "asleep", "expected"),
    [
        (seen(begun=False), False, False, Slot.WANTED),
        (seen(begun=False), True, False, Slot.HELD),
        (seen(begun=False, suspend=True), False, False, Slot.NONE),
        (seen(begun=False, deleting=True), False, False, Slot.NONE),
        (seen(), False, False, Slot.HELD),
        (seen(suspend=True), False, False, Slot.HELD),
        (seen(deleting=True), False, False, Slot.HELD),
        (seen(SUSPENDED, suspend=True), True, False, Slot.NONE),
        (seen(SUSPENDED), False, False, Slot.WANTED),
        (seen(SUSPENDED), True, False, Slot.HELD),
        (seen(SUSPENDED, TURN_HAS_COME), False, False, Slot.HELD),
        (seen(SUSPENDED, deleting=True), False, False, Slot.NONE),
        (seen(suspend=True), False, True, Slot.NONE),
        (seen(), False, True, Slot.WANTED),
        (seen(RESUMED), False, False, Slot.HELD),
        (seen(SUCCEEDED), True, False, Slot.NONE),
    ],
    ids=[
        "new",
        "new, and its workflow is being started",
        "created suspended",
        "deleted before it began",
        "running, also by what an operator that restarts can see",
        "its pods are being taken away",
        "deleted: its pods may run until it is gone",
        "suspended",
        "resumed",
        "resumed, and told to go on",
        "resumed, and told to go on by an operator before",
        "deleted while suspended",
        "created suspended, and its workflow has not said a word",
        "created suspended and resumed, and its workflow has not said a word",
        "goes on",
        "finished",
    ],
)
def test_what_a_job_has_to_do_with_slots(observation: Observation, given: bool, asleep: bool, expected: Slot) -> None:  # noqa: FBT001
    assert slot_of(observation, given=given, asleep=asleep) is expected


def test_the_order_of_five_hundred_is_priority_then_age() -> None:
    chance = random.Random(6)
    claims = [
        claim(f"job-{number:03}", priority=chance.randint(-5, 5), after=timedelta(seconds=number // 7))
        for number in range(500)
    ]
    expected = sorted(claims, key=lambda each: (-each.priority, each.created, each.name))
    chance.shuffle(claims)

    planned = plan(claims, Limits(cluster=4))

    assert [*planned.admitted, *planned.positions] == [each.uid for each in expected]
    assert list(planned.positions.values()) == list(range(1, 497))
