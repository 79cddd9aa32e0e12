"""What the watch of TrainingJobs shows, in whichever way it comes."""

from __future__ import annotations

from typing import Any

from tests.chaos.history import Event
from tests.chaos.objects import Objects, events_by_job


def event(version: int, kind: str = "MODIFIED", name: str = "j", **status: Any) -> dict[str, Any]:
    metadata = {"name": name, "uid": f"uid-{name}", "resourceVersion": str(version)}
    return {"type": kind, "object": {"kind": "TrainingJob", "metadata": metadata, "status": status}}


def phases(objects: Objects) -> list[str]:
    return [sight.phase for sight in objects.sights["j"]]


def test_what_changes_is_kept_in_order_and_once() -> None:
    objects = Objects()
    for each in (event(9, "ADDED", phase="Pending"), event(10, phase="Running"), event(11, phase="Running")):
        objects.take(each)

    assert phases(objects) == ["Pending", "Running"]
    assert objects.unfinished == ["j"]
    assert (objects.job_of("uid-j"), objects.job_of("uid-k")) == ("j", None)


def test_something_older_that_a_new_watch_begins_with_is_no_way_back() -> None:
    objects = Objects()
    for each in (event(9, phase="Pending"), event(10, phase="Running"), event(9, "ADDED", phase="Pending")):
        objects.take(each)

    assert phases(objects) == ["Pending", "Running"]
    assert objects.stale == 1


def test_a_version_with_more_digits_is_newer() -> None:
    objects = Objects()
    for each in (event(99, phase="Pending"), event(100, phase="Running")):
        objects.take(each)

    assert phases(objects) == ["Pending", "Running"]


def test_what_is_said_while_it_is_deleted_is_no_change_after_the_end() -> None:
    objects = Objects()
    objects.take(event(9, phase="Succeeded"))
    deleted = event(10, phase="Succeeded", message="is being deleted")
    deleted["object"]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    objects.take(deleted)
    objects.take(event(11, "DELETED"))

    assert len(objects.sights["j"]) == 1


def test_one_that_was_deleted_on_its_way_is_not_waited_for() -> None:
    objects = Objects()
    objects.take(event(9, phase="Running", checkpoint={"uri": "s3://b/c", "step": 1}))
    assert objects.checkpoints() == ["s3://b/c"]

    objects.forget("j")

    assert (objects.unfinished, objects.checkpoints(), objects.gone) == ([], [], {"j"})


def test_events_are_those_of_the_jobs_uids() -> None:
    told = {"involvedObject": {"uid": "uid-j"}, "type": "Warning", "reason": "Failed", "message": "attempt 1: x"}
    others = {**told, "involvedObject": {"uid": "uid-of-an-older-j"}}

    assert events_by_job([told, others], {"j": "uid-j"}) == {"j": [Event("Warning", "Failed", "attempt 1: x")]}
