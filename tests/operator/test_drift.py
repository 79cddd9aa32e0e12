from __future__ import annotations

from typing import Any

import pytest

from perdure_operator.drift import lacks_workflow
from perdure_operator.observation import observe
from perdure_operator.tracker import Tracked

METADATA = {"name": "tj", "namespace": "ml", "uid": "u"}
SUCCEEDED = {"type": "Succeeded", "status": "True", "reason": "R", "lastTransitionTime": "2026-11-22T12:00:00Z"}
ID = "trainingjob/ml/tj/u"


def tracked(*, metadata: dict[str, Any] | None = None, status: dict[str, Any] | None = None, **known: Any) -> Tracked:
    seen = observe({"metadata": {**METADATA, **(metadata or {})}, "spec": {}, "status": status or {}})
    return Tracked(seen, **{"started_at": 10.0, **known})


@pytest.mark.parametrize(
    ("object_", "running", "expected"),
    [
        (tracked(), set(), True),
        (tracked(), {ID}, False),
        (tracked(started_at=95.0), set(), False),
        (tracked(started_at=None), set(), False),
        (tracked(status={"conditions": [SUCCEEDED]}), set(), False),
        (tracked(metadata={"deletionTimestamp": "2026-11-22T12:00:00Z"}), set(), False),
        (tracked(gone=True), set(), False),
    ],
    ids=["lost", "runs", "too fresh to judge", "not started yet", "finished", "being deleted", "gone"],
)
def test_an_object_lacks_a_workflow(object_: Tracked, running: set[str], *, expected: bool) -> None:
    assert lacks_workflow(object_, running, older_than=90.0) == expected
