from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from perdure_api import names
from perdure_api.conditions import ConditionType, Phase
from perdure_api.status import UNSEEN
from perdure_operator.observation import moment, observe

ACCEPTED = {"type": "Accepted", "status": "True", "reason": "R", "lastTransitionTime": "2026-11-22T12:00:00Z"}
METADATA = {"name": "tj", "namespace": "ml", "uid": "u"}


def test_an_object_that_nobody_has_seen_is_pending_and_not_taken_up() -> None:
    seen = observe({"metadata": METADATA, "spec": {}, "status": UNSEEN})

    assert (seen.phase, seen.terminal, seen.taken_up, seen.held) == (Phase.PENDING, False, False, False)


def test_conditions_of_a_newer_release_are_passed_over() -> None:
    """After a downgrade they must not hide those that are understood."""
    known = {"type": "Succeeded", "status": "True", "reason": "R", "lastTransitionTime": "2026-11-22T12:00:00Z"}
    foreign = {**known, "type": "Quantised"}

    seen = observe({"metadata": METADATA, "status": {"conditions": [foreign, known, {"type": "Accepted"}]}})

    assert [condition.type for condition in seen.conditions] == [ConditionType.SUCCEEDED]
    assert seen.terminal


OUTPUT = {"uri": "s3://b/out"}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"output": OUTPUT, "deletionPolicy": "DeleteCheckpoints"}, "s3://b/out"),
        ({"output": OUTPUT, "deletionPolicy": "KeepCheckpoints"}, None),
        ({"output": OUTPUT}, None),
        ({"output": OUTPUT, "deletionPolicy": "DeleteEverything"}, None),
        ({"deletionPolicy": "DeleteCheckpoints"}, None),
        ({"output": "s3://b/out", "deletionPolicy": "DeleteCheckpoints"}, None),
        ({"output": {}, "deletionPolicy": "DeleteCheckpoints"}, None),
    ],
    ids=["delete", "keep", "nothing said", "of a newer release", "no output", "another output", "half an output"],
)
def test_checkpoints_are_deleted_only_where_that_is_said_and_known_to_mean(
    spec: dict[str, Any], expected: str | None
) -> None:
    seen = observe({"metadata": METADATA, "spec": spec})

    assert (seen.purge.output_uri if seen.purge else None) == expected
    assert seen.purge is None or seen.purge.job == seen.job


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-22T12:00:00Z", datetime(2026, 11, 22, 12, tzinfo=UTC)),
        ("2026-11-22T13:00:00+01:00", datetime(2026, 11, 22, 12, tzinfo=UTC)),
        ("2026-11-22T12:00:00", datetime(2026, 11, 22, 12, tzinfo=UTC)),
        ("yesterday", None),
        (None, None),
    ],
    ids=["zulu", "offset", "no zone", "no time", "nothing"],
)
def test_moment(text: str | None, expected: datetime | None) -> None:
    assert moment(text) == expected


@pytest.mark.parametrize(
    ("metadata", "status", "begun"),
    [
        ({}, {}, False),
        ({"finalizers": [names.FINALIZER]}, {}, True),
        ({"finalizers": [names.FINALIZER], "annotations": {names.ANNOTATION_HELD_FOR: "u"}}, {}, True),
        ({"finalizers": [names.FINALIZER], "annotations": {names.ANNOTATION_HELD_FOR: "old"}}, {}, False),
        ({"annotations": {names.ANNOTATION_HELD_FOR: "u"}}, {}, False),
        ({}, {"workflow": {"id": "trainingjob/ml/tj/u"}}, True),
        ({}, {"workflow": {"id": "trainingjob/ml/tj/old"}, "conditions": [ACCEPTED]}, False),
        ({}, {"conditions": [ACCEPTED]}, True),
    ],
    ids=[
        "new",
        "held by an older release",
        "held",
        "restored with its finalizer",
        "let go",
        "its workflow has spoken",
        "restored with its status",
        "of an older release",
    ],
)
def test_a_job_has_begun_where_that_is_said_of_its_own_uid(
    metadata: dict[str, Any],
    status: dict[str, Any],
    begun: bool,  # noqa: FBT001
) -> None:
    assert observe({"metadata": {**METADATA, **metadata}, "spec": {}, "status": status}).begun is begun
