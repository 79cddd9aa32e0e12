"""`perdure dead-letters` and `perdure top` with what is installed, as docs/guides/when-work-fails.md has them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.commands import run_fine_tune, temporal_address
from tests.cluster.conftest import Document, Jobs, Kubectl, wait_until
from tests.cluster.wishes import input_of_fine_tune

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


def perdure(system: Kubectl, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, with the cluster's kubeconfig and its Temporal."""
    return subprocess.run(
        [sys.executable, "-m", "perdure_cli", *arguments, "--address", temporal_address(system)],
        env={**os.environ, "KUBECONFIG": system.kubeconfig},
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip


def on_the_list(system: Kubectl, name: str) -> Document | None:
    """The entry of the fine_tune of a job, if there is one."""
    listed: list[Document] = json.loads(perdure(system, "dead-letters", "list", "-o", "json").stdout)
    shown = [perdure(system, "dead-letters", "show", each["id"], "-o", "json") for each in listed]
    # One that has gone since it was listed shows nothing.
    entries = [json.loads(each.stdout) for each in shown if each.returncode == 0]
    return next((each for each in entries if each["input"]["name"] == name), None)


def test_a_fine_tune_that_failed_is_on_the_list_succeeds_when_it_is_retried_and_is_gone(
    system: Kubectl, jobs: Jobs, tmp_path: Path
) -> None:
    """Its TrainingJob finds its name taken; that somebody deletes what has it is what a retry is for."""
    name = "taken"
    jobs.create(name, jobs.own("sleep", "300"))
    said = run_fine_tune(system, input_of_fine_tune(tmp_path, jobs, name, "true"), "--wait")
    assert said.returncode == 1
    wait_until(lambda: on_the_list(system, name) is not None, 120, lambda: f"{name} did not come on the list")
    entry = on_the_list(system, name)
    assert entry
    assert "choose another name, or delete it" in entry["error"]
    jobs.kubectl("delete", "trainingjob", name)

    again = perdure(system, "dead-letters", "retry", entry["id"])

    assert again.returncode == 0, again.stderr
    wait_until(lambda: on_the_list(system, name) is None, 120, lambda: f"{name} stayed on the list")
    assert len(jobs.finished(name)["status"]["attempts"]) == 1


def test_top_tells_of_every_queue_and_of_a_job_that_goes_on(system: Kubectl, jobs: Jobs) -> None:
    jobs.create("on-top", jobs.own("sleep", "300"))
    jobs.until("on-top", lambda job: job.get("status", {}).get("phase") == "Running")

    said = perdure(system, "top", "--once")

    assert (said.returncode, said.stderr) == (0, "")
    rows = [line.split() for line in said.stdout.splitlines() if line]
    queues = {row[0]: row[1:] for row in rows}
    assert queues["perdure-cpu"][2] == "of"
    assert int(queues["perdure-watch"][-1]) >= 1, "somebody asks for it"
    assert any(row[:2] == [jobs.kubectl.namespace, "on-top"] for row in rows)
