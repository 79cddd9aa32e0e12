"""Attempts that make no progress."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure_api.uri import parse_uri
from perdure_data.stores import Stores
from tests.cluster.conftest import BUCKET, Document, Jobs, condition, phase, wait_until
from tests.cluster.wishes import REPORT
from tests.trainer import tiny

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
"""A chat template that takes hours."""
PATIENCE = {"progressSeconds": 10}


def test_a_trainer_that_tells_nothing_is_ended_and_tried_again(jobs: Jobs) -> None:
    silent = 'trap "exit 143" TERM; sleep 3600 & wait'
    retry = {"maxAttempts": 2, "initialIntervalSeconds": 0}
    jobs.create("silent", jobs.own("sh", "-c", silent, deadlines=PATIENCE, retry=retry))
    job = jobs.finished("silent")

    assert (phase(job), condition(job, "Succeeded")["reason"]) == ("Failed", "MaxAttemptsReached")
    assert [attempt["reason"] for attempt in job["status"]["attempts"]] == ["Hung", "Hung"]
    assert "no progress for 10 s, so it was ended" in job["status"]["message"]
    wait_until(lambda: jobs.pods("silent") == [], 30, lambda: "a pod stays")


def test_a_trainer_that_tells_of_progress_is_left_alone_however_long_it_takes(jobs: Jobs) -> None:
    steady = "for percent in range(0, 100, 10): report(progressPercentage=percent); time.sleep(2)"
    jobs.create("steady", jobs.own("python3", "-c", f"{REPORT}\nimport time\n{steady}", deadlines=PATIENCE))
    job = jobs.finished("steady")

    assert [attempt["reason"] for attempt in job["status"]["attempts"]] == ["Completed"], job["status"]


def test_the_built_in_trainer_says_where_it_hung_and_its_stacks_are_kept(
    jobs: Jobs, tiny_inputs: Document, stores: Stores, tmp_path: Path
) -> None:
    tiny.write_model(tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").write_text(ENDLESS)
    place = f"{BUCKET}/hangs"
    for file in (tmp_path / "model").iterdir():
        stores.put(parse_uri(f"{place}/model/{file.name}"), file.read_bytes())
    record = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
    stores.put(parse_uri(f"{place}/chat.jsonl"), (record * 20).encode())
    jobs.create(
        "hangs",
        {
            **tiny_inputs,
            "model": {"uri": f"{place}/model"},
            "dataset": {"uri": f"{place}/chat.jsonl"},
            "deadlines": {"progressSeconds": 25},  # its imports take some seconds, on a busy machine more
            "retry": {"maxAttempts": 1},
        },
    )
    job = jobs.finished("hangs", seconds=240)

    (attempt,) = job["status"]["attempts"]
    assert attempt["reason"] == "Hung", job["status"]
    assert "it was in " in attempt["message"]
    uri = attempt["message"].rpartition("every thread: ")[2]
    assert uri.endswith("/attempts/1/stacks.txt")
    assert "chat.py" in stores.read(parse_uri(uri), limit_bytes=2**16).decode()
