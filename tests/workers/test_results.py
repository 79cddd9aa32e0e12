"""What an attempt left in the store → what is taken for its result."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from perdure_api import names
from perdure_api.conditions import Reason
from perdure_api.pod import ResultDocument
from perdure_api.spec import TrainingJobSpec
from perdure_api.uri import parse_uri
from perdure_api.workflow import JobRef
from perdure_data.stores import Stores
from perdure_workers.activities.storage import StorageActivities
from perdure_workers.messages import Collected, CollectResult

JOB = JobRef(namespace="default", name="bible", uid="uid-1")
ATTEMPT = 2
RESULT = ResultDocument(job_uid="uid-1", attempt=ATTEMPT, step=9, adapter_uri="s3://b/a")
OWN: dict[str, Any] = {"trainer": {"image": "i", "command": ["train"]}}
BUILT_IN: dict[str, Any] = {
    "model": {"uri": "s3://b/model"},
    "dataset": {"uri": "s3://b/train.jsonl"},
    "training": {"maxSteps": 1},
}


async def collect(output: str, spec: dict[str, Any]) -> Collected:
    request = CollectResult(
        job=JOB, spec=TrainingJobSpec.from_wire({**spec, "output": {"uri": output}}), attempt=ATTEMPT
    )
    collected: Collected = await ActivityEnvironment().run(StorageActivities(Stores()).collect_result, request)
    return collected


def result_uri(output: str) -> str:
    return f"{names.attempt_uri(names.run_uri(output, JOB.uid), ATTEMPT)}/result.json"


@pytest.mark.parametrize("spec", [OWN, BUILT_IN], ids=["own", "built-in"])
async def test_the_attempts_own_result_is_taken(s3_folder: str, spec: dict[str, Any]) -> None:
    uri = result_uri(s3_folder)
    Stores().put(parse_uri(uri), RESULT.model_dump_json().encode())

    assert await collect(s3_folder, spec) == Collected(document=RESULT, uri=uri)


def like_the_result(**change: object) -> bytes:
    return RESULT.model_copy(update=change).model_dump_json().encode()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(None, "no result document at {uri}; the trainer ended with 0 but wrote none", id="none"),
        pytest.param(b"\x00 not json", "{uri} is no result document: Invalid JSON", id="no JSON"),
        pytest.param(b'{"step": 9}', "{uri} is no result document: Field required", id="something else"),
        pytest.param(like_the_result(attempt=1), "{uri} speaks of attempt 1 of uid-1, not of this", id="older attempt"),
        pytest.param(like_the_result(job_uid="u"), "{uri} speaks of attempt 2 of u, not of this", id="other job"),
        pytest.param(bytes(2 << 20), "the result document cannot be read: {uri} has 2097152 bytes", id="too large"),
    ],
)
async def test_without_a_result_of_its_own_only_a_trainer_of_ones_own_has_succeeded(
    s3_folder: str, content: bytes | None, problem: str
) -> None:
    uri = result_uri(s3_folder)
    Stores().put(parse_uri(f"{s3_folder}/.bucket"), b"")
    if content is not None:
        Stores().put(parse_uri(uri), content)

    assert await collect(s3_folder, OWN) == Collected()

    collected = await collect(s3_folder, BUILT_IN)
    assert (collected.document, collected.uri) == (None, None)
    assert (collected.problem or "").startswith(problem.format(uri=uri))


async def test_a_bucket_that_is_not_there_holds_no_result(s3_environment: dict[str, str]) -> None:
    assert await collect("s3://no-such-bucket/out", OWN) == Collected()


@pytest.mark.parametrize("output", ["s3://b/out#x", "s3://[b/out"])
async def test_an_output_that_leads_nowhere_is_not_waited_for(output: str) -> None:
    assert await collect(output, OWN) == Collected()
    assert f'"{output}' in ((await collect(output, BUILT_IN)).problem or "")


async def test_a_store_that_is_away_is_to_be_asked_again(s3_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(ApplicationError, match="the store cannot be reached") as caught:
            await collect(s3_folder, OWN)

    assert (caught.value.type, caught.value.non_retryable) == (Reason.STORE_UNAVAILABLE, False)
