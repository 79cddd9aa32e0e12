"""What is written down of each job."""

from __future__ import annotations

import itertools

import pytest

from bench.cluster.api import Document
from bench.cluster.workload import OURS, PLAIN
from bench.control_plane.moments import Moments, Witness


def event(name: str, labels: dict[str, str] | None = None, **status: object) -> Document:
    return {"type": "MODIFIED", "object": {"metadata": {"name": name, "labels": labels or {}}, "status": status}}


def conditions(*types: str, status: str = "True", message: str = "") -> list[Document]:
    return [{"type": type_, "status": status, "message": message} for type_ in types]


def witness(kind: str) -> Witness:
    """Its clock goes on by one second with each look."""
    seconds = itertools.count()
    found = Witness(kind, lambda: float(next(seconds)))
    found.applies("j1")
    return found


def test_a_training_job_is_followed_from_its_post_to_its_status() -> None:
    seen = witness(OURS)
    pod = {"perdure.dev/trainingjob": "j1"}
    seen.take_trainingjob(event("j1", conditions=conditions("Accepted")))
    seen.take_pod(event("j1-1-0-abcde", pod, phase="Pending"))
    seen.take_pod(event("j1-1-0-abcde", pod, phase="Running"))
    seen.take_pod(event("j1-1-0-abcde", pod, phase="Succeeded"))
    seen.take_job(event("j1-1", pod, conditions=conditions("SuccessCriteriaMet")))
    seen.take_job(event("j1-1", pod, conditions=conditions("SuccessCriteriaMet", "Complete")))
    assert not seen.done
    assert seen.missing == ["j1"]
    seen.take_trainingjob(event("j1", conditions=conditions("Succeeded")))

    assert seen.done
    assert seen.jobs == {"j1": Moments(applied=1, pod=2, ended=3, completed=4, succeeded=5)}


def test_a_plain_job_has_succeeded_when_it_is_complete() -> None:
    seen = witness(PLAIN)
    pod = {"batch.kubernetes.io/job-name": "j1"}
    seen.take_pod(event("j1-abcde", pod, phase="Pending"))
    seen.take_pod(event("j1-abcde", pod, phase="Succeeded"))
    seen.take_job(event("j1", conditions=conditions("Complete")))

    assert seen.done
    assert (seen.jobs["j1"].completed, seen.jobs["j1"].succeeded) == (4, 5)


def test_what_is_seen_again_keeps_its_first_moment() -> None:
    seen = witness(PLAIN)
    for _ in range(3):
        seen.take_job(event("j1", conditions=conditions("Complete")))

    assert seen.jobs["j1"].completed == 2


@pytest.mark.parametrize("name", ["j2", None])
def test_jobs_of_others_are_none_of_ours(name: str | None) -> None:
    seen = witness(PLAIN)
    seen.take_pod(event("x", {"batch.kubernetes.io/job-name": name} if name else {}, phase="Succeeded"))

    assert list(seen.jobs) == ["j1"]
    assert seen.jobs["j1"].ended is None


def test_a_job_that_fails_is_told_with_its_reason() -> None:
    plain, ours = witness(PLAIN), witness(OURS)
    plain.take_job(event("j1", conditions=conditions("Failed", message="too often")))
    ours.take_trainingjob(event("j1", conditions=conditions("Succeeded", status="False", message="no such image")))

    assert plain.failed == {"j1": "its Job failed: too often"}
    assert ours.failed == {"j1": "no such image"}
