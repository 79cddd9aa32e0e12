from __future__ import annotations

from typing import Any

import pytest

from perdure_api.status import UNSEEN
from perdure_cli.job import read_job
from tests.cli import documents


@pytest.mark.parametrize(
    ("document", "phase", "succeeded"),
    [
        (documents.document(), "Pending", None),
        (documents.document(UNSEEN), "Pending", None),
        (documents.document(documents.RUNNING), "Running", None),
        (documents.document(documents.SUCCEEDED), "Succeeded", True),
        (documents.document(documents.FAILED), "Failed", False),
        (documents.document(documents.RUNNING, deletionTimestamp=documents.CREATED), "Deleting", None),
    ],
    ids=["no status", "unseen", "running", "succeeded", "failed", "being deleted"],
)
def test_a_job_says_how_it_is(document: dict[str, Any], phase: str, succeeded: bool | None) -> None:  # noqa: FBT001
    job = read_job(document)

    assert (job.phase, job.succeeded) == (phase, succeeded)


def test_what_a_newer_cluster_says_is_passed_over() -> None:
    newer = documents.condition("Approved", "False", "WaitingForReview")
    status = {**documents.RUNNING, "conditions": [newer, *documents.RUNNING["conditions"]], "approval": {"by": "?"}}

    assert read_job(documents.document(status)) == read_job(documents.document(documents.RUNNING))


def test_of_a_status_that_cannot_be_read_the_words_remain() -> None:
    job = read_job(documents.document({**documents.RUNNING, "attempts": "many"}))

    assert (job.phase, job.status.reason, job.status.attempts) == ("Running", "PodRunning", [])
