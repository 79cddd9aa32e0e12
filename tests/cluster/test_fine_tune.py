"""`perdure run fine_tune`, as docs/guides/add-a-workflow.md and the command's help have it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.cluster.commands import temporal_address
from tests.cluster.conftest import Jobs, Kubectl, condition

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


def run_fine_tune(system: Kubectl, input_: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The command, on a machine whose environment knows no Temporal."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TEMPORAL_")}
    return subprocess.run(
        [sys.executable, "-m", "perdure_cli", "run", "fine_tune", "-f", str(input_), *options,
         "--address", temporal_address(system)],
        env=environment, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip


def wish(folder: Path, jobs: Jobs, name: str, *command: str, **parts: object) -> Path:
    """A file with the input of a job that runs a command."""
    path = folder / f"{name}.yaml"
    path.write_text(
        yaml.safe_dump({"namespace": jobs.kubectl.namespace, "name": name, "spec": jobs.own(*command, **parts)})
    )
    return path


def test_it_makes_a_job_follows_it_and_prints_what_came_of_it(system: Kubectl, jobs: Jobs, tmp_path: Path) -> None:
    input_ = wish(tmp_path, jobs, "tuned", "true")

    said = run_fine_tune(system, input_, "--wait")

    assert said.returncode == 0, said.stderr
    job = jobs.get("tuned")
    told = json.loads(said.stdout)
    assert (told["namespace"], told["name"]) == (jobs.kubectl.namespace, "tuned")
    assert told["uid"] == job["metadata"]["uid"]
    assert condition(job, "Succeeded")["status"] == "True"
    assert len(job["status"]["attempts"]) == 1


def test_the_same_input_joins_what_runs_and_trains_nothing_twice(system: Kubectl, jobs: Jobs, tmp_path: Path) -> None:
    input_ = wish(tmp_path, jobs, "joined", "sleep", "5")

    first = run_fine_tune(system, input_)
    second = run_fine_tune(system, input_, "--wait")

    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert first.stdout.endswith("has started.\n")
    assert "was there already, and is joined" in second.stderr
    assert len(jobs.get("joined")["status"]["attempts"]) == 1
    assert len(jobs.pods("joined")) == 1


def test_a_job_that_fails_is_told_in_its_own_sentence(system: Kubectl, jobs: Jobs, tmp_path: Path) -> None:
    script = 'echo "the data is no good" > /dev/termination-log; exit 65'

    said = run_fine_tune(system, wish(tmp_path, jobs, "refused", "sh", "-c", script), "--wait")

    assert said.returncode == 1
    assert "the data is no good" in said.stderr
    assert said.stdout == ""
