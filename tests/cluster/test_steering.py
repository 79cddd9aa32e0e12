"""What people ask of a job that is there: suspend, resume, save now, cancel. By kubectl, and by our own command."""

from __future__ import annotations

import pytest

from perdure_data.stores import Stores
from tests.cluster.commands import perdure, suspend
from tests.cluster.conftest import Document, Jobs, condition, phase, step
from tests.cluster.shown import adapter_of, events, is_running, is_suspended
from tests.cluster.wishes import of_steps

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

TURNS = 10


def test_a_suspended_job_saves_leaves_no_pod_and_ends_with_the_adapter_of_an_undisturbed_one(
    jobs: Jobs, tiny_inputs: Document, stores: Stores
) -> None:
    jobs.create("undisturbed", of_steps(tiny_inputs, 800))
    jobs.create("suspended", of_steps(tiny_inputs, 800))
    jobs.until("suspended", lambda job: is_running(job) and step(job) > 0)

    suspend(jobs, "suspended", suspended=True)
    job = jobs.until("suspended", is_suspended)

    assert jobs.pods("suspended") == []
    saved = job["status"]["checkpoint"]["step"]
    assert saved > 0
    assert f"the checkpoint of step {saved} is saved" in job["status"]["message"]
    assert job["status"]["observedGeneration"] == job["metadata"]["generation"] == 2
    assert condition(job, "Reconciling")["status"] == "False"
    suspend(jobs, "suspended", suspended=False)
    job, undisturbed = (jobs.finished(name, seconds=240) for name in ("suspended", "undisturbed"))
    assert phase(job) == "Succeeded", job["status"]
    attempts = job["status"]["attempts"]
    assert [each["reason"] for each in attempts] == ["Suspended", "Completed"]
    assert attempts[1]["fromStep"] == saved
    counters = job["status"]["attemptCounters"]
    assert (counters["failed"], counters["disrupted"], counters["suspended"]) == (0, 0, 1)
    assert adapter_of(stores, job) == adapter_of(stores, undisturbed)
    assert {
        event["type"] for event in [*events(jobs, "suspended", "Suspended"), *events(jobs, "suspended", "Resumed")]
    } == {"Normal"}
    assert events(jobs, "suspended", "Stopping") == []


def test_ten_suspensions_in_a_row_use_up_no_attempt(jobs: Jobs) -> None:
    until_told = 'trap "exit 143" TERM; sleep 3600 & wait'
    jobs.create("often", jobs.own("sh", "-c", until_told, retry={"maxAttempts": 1}))
    for turn in range(TURNS):
        if turn % 2:  # every second time while it is starting
            jobs.until("often", is_running)
        suspend(jobs, "often", suspended=True)
        jobs.until("often", is_suspended)
        assert jobs.pods("often") == []
        suspend(jobs, "often", suspended=False)
    job = jobs.until("often", is_running)

    assert len([pod for pod in jobs.pods("often") if pod["status"]["phase"] == "Running"]) == 1
    counters = job["status"]["attemptCounters"]
    assert (counters.get("failed", 0), counters.get("disrupted", 0)) == (0, 0)
    assert counters["started"] == counters["suspended"] + 1


def test_a_job_that_is_created_suspended_makes_no_pod_until_it_is_resumed(jobs: Jobs) -> None:
    jobs.create("later", {**jobs.own("true"), "suspend": True})
    jobs.until("later", is_suspended)
    assert jobs.pods("later") == []

    said = perdure(jobs, "resume", "later")

    assert "goes on" in said
    assert phase(jobs.finished("later")) == "Succeeded"


def test_a_checkpoint_is_saved_on_demand_and_the_one_who_asked_is_told(jobs: Jobs, tiny_inputs: Document) -> None:
    jobs.create("asked", of_steps(tiny_inputs, 100_000))
    jobs.until("asked", lambda job: is_running(job) and step(job) > 0)
    assert "checkpoint" not in jobs.get("asked")["status"], "none is due for long"

    said = perdure(jobs, "checkpoint", "asked", "--reason", "before maintenance")

    assert "is saved, as asked for: before maintenance" in said
    job = jobs.until("asked", lambda job: job["status"].get("checkpoint", {}).get("step", 0) > 0)
    saved = job["status"]["checkpoint"]
    assert f"the checkpoint of step {saved['step']} is saved" in said
    assert saved["time"]
    assert [event["type"] for event in events(jobs, "asked", "CheckpointSaved")] == ["Normal"]
    assert is_running(jobs.get("asked")), "as before"

    said = perdure(jobs, "cancel", "asked", "--yes")

    assert "being cancelled" in said
    job = jobs.finished("asked")
    assert (phase(job), job["status"]["reason"]) == ("Failed", "Cancelled")
    assert job["status"]["checkpoint"]["step"] >= saved["step"]
    assert jobs.pods("asked") == []


def test_what_is_finished_cannot_be_steered_any_more(jobs: Jobs) -> None:
    jobs.create("over", jobs.own("true"))
    before = jobs.finished("over")

    suspend(jobs, "over", suspended=True)
    jobs.kubectl("annotate", "trainingjob", "over", "perdure.dev/cancel=true", "perdure.dev/checkpoint=now")

    after = jobs.until("over", lambda job: job["status"]["observedGeneration"] == 2)
    assert phase(after) == "Succeeded"
    assert condition(after, "Succeeded")["reason"] == condition(before, "Succeeded")["reason"]
