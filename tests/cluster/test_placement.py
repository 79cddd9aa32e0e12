"""Attempts that find no place: other resources, then fewer nodes."""

from __future__ import annotations

import pytest

from tests.cluster.conftest import Jobs, condition, phase
from tests.cluster.shown import messages

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def test_a_job_that_nowhere_fits_as_asked_takes_the_next_alternative(jobs: Jobs) -> None:
    jobs.create(
        "elsewhere",
        jobs.own(
            "true",
            resources={
                "nodeSelector": {"gpu": "none-such"},
                "alternatives": [{"gpusPerNode": 64}, {"nodeSelector": {}}],
            },
            deadlines={"startSeconds": 5},
        ),
    )
    job = jobs.finished("elsewhere")

    assert phase(job) == "Succeeded", job["status"]
    assert [attempt["reason"] for attempt in job["status"]["attempts"]] == ["NoCapacity", "NoCapacity", "Completed"]
    assert len(jobs.pods("elsewhere")) == 1, "what found no place is taken away"
    assert any("resources.alternatives[1]" in message for message in messages(jobs, "elsewhere", "NoCapacity"))


def test_a_job_that_finds_no_place_anywhere_says_what_it_lacked(jobs: Jobs) -> None:
    jobs.create(
        "nowhere",
        jobs.own(
            "true",
            resources={"nodes": 2, "minNodes": 2, "gpusPerNode": 64, "alternatives": [{"gpusPerNode": 63}]},
            deadlines={"startSeconds": 5},
        ),
    )
    job = jobs.finished("nowhere")

    assert (phase(job), condition(job, "Succeeded")["reason"]) == ("Failed", "NoCapacity")
    assert "Insufficient nvidia.com/gpu" in job["status"]["message"]
    assert jobs.pods("nowhere") == []
