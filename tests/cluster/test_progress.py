"""Progress as real pods tell it, in Kubeflow's words and with the token that they are given."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cluster.conftest import Jobs
from tests.cluster.wishes import REPORT

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


def answers_of(jobs: Jobs, name: str, script: str) -> tuple[list[Any], dict[str, Any]]:
    """What the receiver answered to each of a pod's reports, and the job that came of it."""
    words = 'open("/dev/termination-log", "w").write(json.dumps({"message": json.dumps(answers)}))'
    jobs.create(name, jobs.own("python3", "-c", f"{REPORT}\n{script}\n{words}\nsys.exit(64)"))
    job = jobs.finished(name)
    return json.loads(job["status"]["message"]), job


def test_kubeflows_report_is_taken_and_shown(jobs: Jobs) -> None:
    script = """
told = {"loss": "2.5", "current_step": "45", "total_steps": "90"}
metrics = [{"name": name, "value": value} for name, value in told.items()]
answers = [report(progressPercentage=50, estimatedRemainingSeconds=9, metrics=metrics)]
"""
    answers, job = answers_of(jobs, "tells", script)

    progress = job["status"]["progress"]
    assert answers == [200]
    assert (progress["step"], progress["totalSteps"], progress["percent"]) == (45, 90, 50)
    assert progress["metrics"] == {"loss": 2.5}
    assert job["status"]["attempts"][0]["toStep"] == 45


def test_what_is_no_report_is_refused_and_changes_nothing(jobs: Jobs) -> None:
    script = """
good = b'{"trainerStatus": {"progressPercentage": 10}}'
answers = [post(b"not json"), post(b'{"trainerStatus": {"progressPercentage": 400}}'), post(b"x" * 200_000),
           post(good, token="stolen"), post(good, token=token[:-3] + "abc"), post(good)]
"""
    answers, job = answers_of(jobs, "nonsense", script)

    assert answers == [400, 400, 413, 403, 403, 200]
    assert job["status"]["progress"]["percent"] == 10


def test_a_pod_that_shouts_is_told_to_be_quiet(jobs: Jobs) -> None:
    script = """
seen = [report(progressPercentage=1) for _ in range(60)]
answers = [seen.count(200) > 5, seen.count(429) > 5, sorted(set(seen))]
"""
    answers, _ = answers_of(jobs, "shouts", script)

    assert answers == [True, True, [200, 429]]


def test_the_progress_token_opens_nothing_else(jobs: Jobs) -> None:
    script = """
context = ssl._create_unverified_context()
request = urllib.request.Request("https://kubernetes.default.svc/api/v1/namespaces/default/pods",
    headers={"Authorization": "Bearer " + token})
try:
    answers = [urllib.request.urlopen(request, context=context, timeout=10).status]
except urllib.error.HTTPError as error:
    answers = [error.code]
"""
    answers, _ = answers_of(jobs, "curious", script)

    assert answers == [401]
