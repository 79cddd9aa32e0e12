"""Where a job was whose history Temporal has lost."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from perdure_api import names
from perdure_api.conditions import Reason
from perdure_api.status import AttemptCounters, AttemptStatus, TrainingJobStatus
from perdure_workers.attempts.recall import Recollection, attempts_shown, recollect, suspended_seconds
from perdure_workers.messages import FoundAttempt

BEGUN = "2026-01-01T00:00:00Z"


def told(*ends: Reason | None, first: int = 1) -> TrainingJobStatus:
    """What an object tells whose attempts ended so; None: under way."""
    attempts = [
        AttemptStatus(number=number, job=f"job-{number}", start_time=BEGUN, end_time=BEGUN if end else None, reason=end)
        for number, end in enumerate(ends, start=first)
    ]
    return TrainingJobStatus(attempts=attempts, attempt_counters=AttemptCounters(started=first + len(ends) - 1))


def found(*live: int, ended: tuple[int, ...] = ()) -> list[FoundAttempt]:
    return [FoundAttempt(number=number, live=number in live) for number in sorted({*live, *ended})]


WIPED = TrainingJobStatus(attempt_counters=AttemptCounters(started=3))


@pytest.mark.parametrize(
    ("status", "shown", "expected"),
    [
        (told(), found(), Recollection()),
        (TrainingJobStatus(), found(), Recollection()),
        (told(), found(1), Recollection(under_way=1)),
        (told(Reason.FAILED, None), found(2, ended=(1,)), Recollection(under_way=2)),
        (told(Reason.FAILED, None), found(ended=(1, 2)), Recollection(under_way=2)),
        (told(Reason.FAILED, None), found(ended=(1,)), Recollection(under_way=2)),
        (told(Reason.FAILED), found(ended=(1,)), Recollection()),
        (told(Reason.FAILED), found(), Recollection()),
        (told(Reason.NO_CAPACITY), found(1), Recollection(leftovers=(1,))),
        (told(Reason.FAILED), found(2, ended=(1,)), Recollection(under_way=2)),
        (told(Reason.FAILED, None), found(3, ended=(1, 2)), Recollection(under_way=3, lost=(2,))),
        (told(Reason.FAILED), found(4, ended=(1,)), Recollection(under_way=4, lost=(2, 3))),
        (told(Reason.DISRUPTED, None), found(1, 2), Recollection(under_way=2, leftovers=(1,))),
        (told(Reason.COMPLETED), found(ended=(1,)), Recollection(completed=1)),
        (told(Reason.COMPLETED), found(), Recollection(completed=1)),
        (told(Reason.FAILED, Reason.COMPLETED), found(1, 2), Recollection(completed=2, leftovers=(1, 2))),
        (told(Reason.SUSPENDED), found(), Recollection()),
        (told(Reason.NO_CAPACITY, None), found(0, 2), Recollection(under_way=2)),
        (told(Reason.REGROWN), found(0), Recollection(leftovers=(0,))),
        (told(Reason.FAILED, None, first=41), found(42), Recollection(under_way=42)),
        (WIPED, found(3), Recollection(under_way=3)),
        (WIPED, found(5), Recollection(under_way=5, lost=(4,))),
    ],
    ids=[
        "before its first attempt",
        "nothing told",
        "its first attempt was not told of yet",
        "one runs",
        "one has ended, and nobody was told",
        "the Job of the one that ran is gone",
        "between two attempts",
        "between two attempts, and the last Job is gone",
        "between two attempts, and the last one is not gone yet",
        "the next one was not told of yet",
        "behind by one that ended",
        "behind by two",
        "an older one runs beside the newest",
        "its result is waited for",
        "its result is waited for, and its Job is gone",
        "its result is waited for, and something runs",
        "suspended",
        "on fewer nodes, with places held for the others",
        "places are held for the next one",
        "only the newest ten are told of",
        "the list of attempts is lost",
        "the list of attempts is lost, and it is behind",
    ],
)
def test_a_job_goes_on_where_the_newest_of_status_and_cluster_says_it_was(
    status: TrainingJobStatus, shown: list[FoundAttempt], expected: Recollection
) -> None:
    assert recollect(status, shown) == expected


def labelled(number: int, uid: str = "u") -> dict[str, Any]:
    labels = {names.LABEL_JOB_UID: uid, names.LABEL_ATTEMPT: str(number)}
    name = f"job-{number}"
    return {
        "name": name,
        "namespace": "ns",
        "uid": name,
        "labels": labels,
        "creationTimestamp": "2026-01-01T00:01:00Z",
        "ownerReferences": [{"kind": "Job", "name": name, "uid": uid, "controller": True}],
    }


def job(number: int, *conditions: str, nodes: int = 1) -> dict[str, Any]:
    told = [{"type": condition, "status": "True"} for condition in conditions]
    return {"metadata": labelled(number), "spec": {"completions": nodes}, "status": {"conditions": told}}


def pod(number: int, phase: str) -> dict[str, Any]:
    return {"metadata": labelled(number), "spec": {}, "status": {"phase": phase}}


def of_a_deployment(number: int) -> dict[str, Any]:
    document = pod(number, "Running")
    document["metadata"]["ownerReferences"][0]["kind"] = "ReplicaSet"
    return document


CREATED = datetime(2026, 1, 1, 0, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("jobs", "pods", "expected"),
    [
        ([], [], []),
        ([job(1)], [], [FoundAttempt(number=1, created_at=CREATED)]),
        ([job(1, "Failed")], [pod(1, "Failed")], [FoundAttempt(number=1, created_at=CREATED, live=False)]),
        ([job(1, "Complete")], [pod(1, "Running")], [FoundAttempt(number=1, created_at=CREATED)]),
        ([], [pod(1, "Running")], [FoundAttempt(number=1)]),
        ([], [pod(1, "Succeeded")], [FoundAttempt(number=1, live=False)]),
        (
            [job(10, nodes=2), job(2, "Failed")],
            [pod(10, "Running"), pod(10, "Failed")],
            [
                FoundAttempt(number=2, created_at=CREATED, live=False),
                FoundAttempt(number=10, created_at=CREATED, nodes=2),
            ],
        ),
        ([{**job(1), "metadata": {**labelled(1), "labels": {}}}], [], []),
        ([{**job(1), "metadata": {**labelled(1), "ownerReferences": []}}], [of_a_deployment(1)], []),
    ],
    ids=[
        "none",
        "just made",
        "over",
        "its pod is not over",
        "a pod without its Job",
        "that ended",
        "two",
        "not ours",
        "copies",
    ],
)
def test_what_may_still_run_is_told_from_what_is_over(
    jobs: list[dict[str, Any]], pods: list[dict[str, Any]], expected: list[FoundAttempt]
) -> None:
    assert attempts_shown(jobs, pods) == expected


@pytest.mark.parametrize(
    ("status", "seconds"),
    [
        ({}, 0),
        ({"suspendedSeconds": 30}, 30),
        ({"suspendedSeconds": 30, "conditions": [("True", "2026-01-01T00:00:00Z")]}, 90),
        ({"suspendedSeconds": 30, "conditions": [("False", "2026-01-01T00:00:00Z")]}, 30),
        ({"conditions": [("True", "2026-01-01T00:02:00Z")]}, 0),
    ],
    ids=["never", "before", "still", "no longer", "since a moment that is to come"],
)
def test_time_that_it_was_suspended_is_remembered(status: dict[str, Any], seconds: float) -> None:
    conditions = [
        {"type": "Suspended", "status": value, "reason": "Suspended", "lastTransitionTime": since}
        for value, since in status.pop("conditions", [])
    ]
    now = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)

    assert suspended_seconds(TrainingJobStatus.from_wire({**status, "conditions": conditions}), now) == seconds
