"""What is left in the store, and what was written there late."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import obstore
import pytest
from obstore.store import MemoryStore

from perdure_api.uri import parse_uri
from perdure_data.stores import Stores
from perdure_workers.run_folder import RunFolder
from tests.chaos.remains import Written, bucket_store, late_writes, open_workflows, rests, workflows_left, written

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def at(seconds: float, path: str) -> Written:
    return Written(path, NOON + timedelta(seconds=seconds))


COMMIT = at(100, "attempts/2/checkpoints/step-1-abc/manifest.json")


@pytest.mark.parametrize(
    ("path", "seconds", "late"),
    [
        ("attempts/1/checkpoints/step-9-abc/manifest.json", 110, True),
        ("attempts/1/checkpoints/step-9-abc/optimizer.safetensors", 110, True),
        ("attempts/1/result.json", 110, True),
        ("attempts/1/checkpoints/latest.json", 99, False),
        ("attempts/1/checkpoints/latest.json", 101, False),  # the clocks of a store are not that good
        ("attempts/1/stacks.txt", 110, False),
        ("attempts/2/checkpoints/step-9-abc/manifest.json", 110, False),
        ("attempts/3/started.json", 110, False),
        ("tokens/manifest", 110, False),
    ],
)
def test_nothing_is_written_by_an_attempt_when_a_newer_one_has_committed(path: str, seconds: int, late: bool) -> None:  # noqa: FBT001
    problems = late_writes([COMMIT, at(seconds, path)], parted=())

    name = path.removeprefix("attempts/1/")
    assert problems == ([f"attempt 1 wrote {name} 10 s after attempt 2 had committed"] if late else [])


def test_one_whose_node_was_lost_may_write_on_where_nobody_looks() -> None:
    zombie = at(110, "attempts/1/checkpoints/step-9-abc/manifest.json")

    assert late_writes([COMMIT, zombie], parted={1}) == []
    assert late_writes([COMMIT, zombie], parted={2}) != []


def test_an_attempt_that_committed_nothing_puts_an_end_to_none() -> None:
    begun = at(100, "attempts/2/started.json")

    assert late_writes([begun, at(110, "attempts/1/result.json")], parted=()) == []
    committed = at(105, "attempts/3/checkpoints/step-1-abc/manifest.json")
    assert late_writes([begun, committed, at(110, "attempts/1/result.json")], parted=()) == [
        "attempt 1 wrote result.json 5 s after attempt 3 had committed"
    ]


def test_rests_are_what_only_serves_to_go_on_from() -> None:
    resumable = ["attempts/1/checkpoints/step-1-a/manifest.json", "attempts/12/checkpoints/latest.json", "tokens/0"]
    kept = ["attempts/1/result.json", "attempts/1/adapter/adapter_model.safetensors", "attempts/2/deleted.json"]

    assert rests([at(0, path) for path in [*resumable, *kept]]) == resumable


def test_what_is_taken_for_a_rest_is_what_a_deletion_deletes() -> None:
    """Two witnesses of docs/deletion.md, neither of which knows the other."""
    run = parse_uri("s3://b/out/runs/u")
    paths = [
        "attempts/1/checkpoints/step-1-a/manifest.json",
        "tokens/manifest",
        "attempts/1/started.json",
        "x/tokens/y",
    ]
    doomed = RunFolder(run, tuple(run.child(*path.split("/")) for path in paths)).resumables()

    assert {f"{run}/{path}" for path in rests([at(0, path) for path in paths])} == {str(uri) for uri in doomed}


def test_the_folder_of_a_run_is_listed_with_times_and_no_other_run_is() -> None:
    store = MemoryStore()
    for path in ("out/runs/u/attempts/1/result.json", "out/runs/u2/attempts/1/result.json"):
        obstore.put(store, path, b"{}")

    (found,) = written(store, "s3://b/out/", "u")

    assert found.path == "attempts/1/result.json"
    assert abs(datetime.now(UTC) - found.at) < timedelta(minutes=5)


def test_open_workflows_are_those_of_all_jobs_of_the_namespace() -> None:
    assert open_workflows("chaos-1").endswith("WorkflowId STARTS_WITH 'trainingjob/chaos-1/'")
    assert workflows_left('{"count": "3"}') == ["3 open workflows"]
    assert workflows_left('{"count": "0"}') == workflows_left("{}") == []


def test_the_store_of_a_run_is_found_by_its_uri(s3_environment: dict[str, str]) -> None:
    Stores().put(parse_uri("s3://perdure-test/chaos/runs/u/attempts/1/result.json"), b"{}")

    (found,) = written(bucket_store("s3://perdure-test/chaos"), "s3://perdure-test/chaos", "u")

    assert found.path == "attempts/1/result.json"
