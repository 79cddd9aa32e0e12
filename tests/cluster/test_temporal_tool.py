"""What `temporal workflow …` does to a job: Temporal's own command line knows nothing of TrainingJobs."""

from __future__ import annotations

import pytest

from tests.cluster.commands import temporal_workflow
from tests.cluster.conftest import Document, Jobs, Kubectl, phase, step
from tests.cluster.shown import events, is_running
from tests.cluster.wishes import of_steps

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


def begun(jobs: Jobs, name: str, spec: Document) -> str:
    """The id of its workflow, now that it runs."""
    jobs.create(name, spec)
    return str(jobs.until(name, is_running)["status"]["workflow"]["id"])


def test_a_checkpoint_that_is_asked_for_with_a_signal_is_saved(
    jobs: Jobs, system: Kubectl, tiny_inputs: Document
) -> None:
    workflow = begun(jobs, "signalled", of_steps(tiny_inputs, 100_000))
    jobs.until("signalled", lambda job: step(job) > 0)

    said = ("--name", "emergency_checkpoint", "--input", '{"reason": "the lights flicker"}')
    assert temporal_workflow(system, "signal", workflow, *said) == 0
    job = jobs.until("signalled", lambda job: job["status"].get("checkpoint", {}).get("step", 0) > 0)

    assert is_running(job)
    jobs.until("signalled", lambda _: bool(events(jobs, "signalled", "CheckpointSaved")))
    assert "the lights flicker" in events(jobs, "signalled", "CheckpointSaved")[0]["message"]


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("a-number", "7"),
        ("a-text", '"now"'),
        ("a-list", "[]"),
        ("another-type", '{"reason": {"no": "text"}, "generation": "x"}'),
        ("far-future", '{"generation": 9007199254740991, "suspend": true}'),
    ],
)
def test_a_signal_of_another_shape_stops_nothing(jobs: Jobs, system: Kubectl, name: str, argument: str) -> None:
    workflow = begun(jobs, name, jobs.own("sh", "-c", "sleep 8"))

    for signal in ("wishes", "emergency_checkpoint", "no_such_signal"):
        temporal_workflow(system, "signal", workflow, "--name", signal, "--input", argument)
    job = jobs.finished(name)

    assert phase(job) == "Succeeded", job["status"]
    assert [attempt["reason"] for attempt in job["status"]["attempts"]] == ["Completed"]


def test_a_workflow_that_is_terminated_fails_its_job_which_says_so(jobs: Jobs, system: Kubectl) -> None:
    workflow = begun(jobs, "terminated", jobs.own("sleep", "600"))

    assert temporal_workflow(system, "terminate", workflow, "--reason", "by hand") == 0
    job = jobs.finished("terminated")

    assert (phase(job), job["status"]["reason"]) == ("Failed", "WorkflowLost"), job["status"]
    jobs.kubectl("delete", "trainingjob", "terminated", "--timeout=60s")


def test_a_workflow_that_is_reset_goes_on_with_the_attempt_that_runs(jobs: Jobs, system: Kubectl) -> None:
    workflow = begun(jobs, "reset", jobs.own("sleep", "20"))
    (before,) = jobs.pods("reset")

    assert temporal_workflow(system, "reset", workflow, "--type", "FirstWorkflowTask", "--reason", "by hand") == 0
    job = jobs.finished("reset")

    assert phase(job) == "Succeeded", job["status"]
    assert [attempt["reason"] for attempt in job["status"]["attempts"]] == ["Completed"]
    assert [pod["metadata"]["uid"] for pod in jobs.pods("reset")] == [before["metadata"]["uid"]]
