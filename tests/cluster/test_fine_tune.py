"""`perdure run fine_tune`, as docs/guides/add-a-workflow.md and the command's help have it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cluster.commands import run_fine_tune
from tests.cluster.conftest import Jobs, Kubectl, condition
from tests.cluster.wishes import input_of_fine_tune

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


def test_it_makes_a_job_follows_it_and_prints_what_came_of_it(system: Kubectl, jobs: Jobs, tmp_path: Path) -> None:
    input_ = input_of_fine_tune(tmp_path, jobs, "tuned", "true")

    said = run_fine_tune(system, input_, "--wait")

    assert said.returncode == 0, said.stderr
    job = jobs.get("tuned")
    told = json.loads(said.stdout)
    assert (told["namespace"], told["name"]) == (jobs.kubectl.namespace, "tuned")
    assert told["uid"] == job["metadata"]["uid"]
    assert condition(job, "Succeeded")["status"] == "True"
    assert len(job["status"]["attempts"]) == 1


def test_the_same_input_joins_what_runs_and_trains_nothing_twice(system: Kubectl, jobs: Jobs, tmp_path: Path) -> None:
    input_ = input_of_fine_tune(tmp_path, jobs, "joined", "sleep", "5")

    first = run_fine_tune(system, input_)
    second = run_fine_tune(system, input_, "--wait")

    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert first.stdout.endswith("has started.\n")
    assert "was there already, and is joined" in second.stderr
    assert len(jobs.get("joined")["status"]["attempts"]) == 1
    assert len(jobs.pods("joined")) == 1


def test_a_job_that_fails_is_told_in_its_own_sentence(system: Kubectl, jobs: Jobs, tmp_path: Path) -> None:
    script = 'echo "the data is no good" > /dev/termination-log; exit 65'

    said = run_fine_tune(system, input_of_fine_tune(tmp_path, jobs, "refused", "sh", "-c", script), "--wait")

    assert said.returncode == 1
    assert "the data is no good" in said.stderr
    assert said.stdout == ""
