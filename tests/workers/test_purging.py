"""What the built-in trainer leaves in a store → what is left of it when its checkpoints were deleted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from perdure_api import names
from perdure_api.conditions import Reason
from perdure_api.pod import ResultDocument
from perdure_api.uri import StoreUri, parse_uri
from perdure_api.workflow import JobRef
from perdure_data.errors import Unavailable
from perdure_data.stores import Stores
from perdure_trainer.checkpoints.repository import Repository
from perdure_trainer.data.cache import TokenCache
from perdure_trainer.failures import Fenced
from perdure_workers.activities.purging import PurgingActivities
from perdure_workers.messages import DeleteCheckpoints
from tests.trainer.checkpoints.test_repository import repository, snapshot

JOB = JobRef(namespace="default", name="bible", uid="uid-1")
MADE = {
    "attempts/2/adapter/adapter_model.safetensors",
    "attempts/2/adapter/README.md",
    "attempts/2/tensorboard/events.out.tfevents.1",
    "attempts/1/stacks.txt",
}
TRACES = {"attempts/1/started.json", "attempts/2/started.json"}


@pytest.fixture(params=["file", "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder to write to: each test that asks for it runs on a file system and on S3."""
    if request.param == "file":
        return f"file://{tmp_path}/out"
    folder = str(request.getfixturevalue("s3_folder"))
    Stores().put(parse_uri(f"{folder}/.bucket"), b"")
    return folder


@dataclass(frozen=True)
class Run:
    """A run of two attempts, as the trainer itself writes it."""

    output: str
    stores: Stores

    @property
    def uri(self) -> StoreUri:
        return parse_uri(names.run_uri(self.output, JOB.uid))

    @property
    def paths(self) -> set[str]:
        return {info.uri.path.removeprefix(f"{self.uri.path}/") for info in self.stores.list_objects(self.uri)}

    def attempt(self, number: int) -> Repository:
        return repository(self.stores, self.uri, number)

    def finish(self, adapter_uri: str | None = None) -> None:
        """Leaves the result document of the second attempt."""
        adapter_uri = adapter_uri or str(self.uri.child("attempts/2/adapter"))
        document = ResultDocument(job_uid=JOB.uid, attempt=2, step=9, adapter_uri=adapter_uri)
        self.stores.put(self.uri.child("attempts/2/result.json"), document.model_dump_json(by_alias=True).encode())


@pytest.fixture
def run(output: str, tmp_path: Path) -> Run:
    made = Run(output, Stores())
    for number in (1, 2):
        made.attempt(number).claim()
        made.attempt(number).save(snapshot(5 * number))
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokens" / "train").write_bytes(b"tokens")
    tokens(made).keep("key", tmp_path / "tokens", "sha256:d", Event())
    for path in MADE:
        made.stores.put(made.uri.child(path), b"made")
    return made


def tokens(run: Run) -> TokenCache:
    return TokenCache(run.stores, run.uri.child(names.TOKENS_FOLDER))


async def purge(output: str, stores: Stores | None = None) -> None:
    activities = PurgingActivities(stores or Stores())
    await ActivityEnvironment().run(activities.delete_checkpoints, DeleteCheckpoints(job=JOB, output_uri=output))


async def test_of_a_finished_run_all_that_was_made_stays_and_nothing_to_go_on_from(run: Run, tmp_path: Path) -> None:
    run.finish()
    assert run.attempt(3).load_newest(), "nothing to delete"

    await purge(run.output)

    assert run.paths == MADE | TRACES | {"attempts/2/result.json"}
    assert run.attempt(3).load_newest() is None
    assert tokens(run).load("key", tmp_path / "loaded") is None


async def test_another_run_of_the_same_output_stays_as_it_is(run: Run) -> None:
    other = parse_uri(names.run_uri(run.output, "uid-10"))
    repository(run.stores, other).save(snapshot(5))
    before = run.stores.list_objects(other)

    await purge(run.output)

    assert run.stores.list_objects(other) == before


async def test_purged_again_nothing_changes(run: Run) -> None:
    await purge(run.output)
    once = run.paths

    await purge(run.output)

    assert run.paths == once


async def test_an_adapter_that_its_own_trainer_has_put_among_the_checkpoints_stays(run: Run) -> None:
    final = run.uri.child("attempts/2/checkpoints/final")
    run.stores.put(final.child("weights"), b"made")
    run.finish(str(final))

    await purge(run.output)

    assert run.paths == MADE | TRACES | {"attempts/2/result.json", "attempts/2/checkpoints/final/weights"}


@pytest.mark.parametrize("content", [b"\x00", b"{}", b'{"jobUid": "u", "attempt": 2, "step": 1, "adapterUri": "x"}'])
async def test_a_result_that_names_no_adapter_keeps_nothing(run: Run, content: bytes) -> None:
    run.stores.put(run.uri.child("attempts/2/result.json"), content)

    await purge(run.output)

    assert run.paths == MADE | TRACES | {"attempts/2/result.json"}


async def test_a_pod_that_still_writes_somewhere_ends_with_its_next_save_and_leaves_no_checkpoint(run: Run) -> None:
    zombie = run.attempt(2)

    await purge(run.output)

    with pytest.raises(Fenced):
        zombie.save(snapshot(15))
    assert run.attempt(3).load_newest() is None
    await purge(run.output)
    assert run.paths == MADE | TRACES | {f"attempts/3/{names.FENCE}"}


class EndsAfter(Stores):
    """A store that is away after so many deletions."""

    def __init__(self, deletions: int) -> None:
        super().__init__()
        self._left = deletions

    def delete(self, uri: StoreUri) -> None:
        if self._left == 0:
            raise Unavailable(f"{uri}: the store cannot be reached")
        self._left -= 1
        super().delete(uri)


@pytest.mark.parametrize("deletions", range(6))
async def test_wherever_it_breaks_off_half_a_checkpoint_does_not_look_whole(run: Run, deletions: int) -> None:
    with pytest.raises(ApplicationError):
        await purge(run.output, EndsAfter(deletions))

    for info in run.stores.list_objects(run.uri):
        if info.uri.path.endswith(f"/{names.CHECKPOINT_MANIFEST}"):
            listed = json.loads(run.stores.read(info.uri, limit_bytes=2**20))["files"]
            there = {each.uri for each in run.stores.list_objects(info.uri.parent)}
            assert {info.uri.parent.child(each["name"]) for each in listed} <= there
    await purge(run.output)
    assert run.paths - {f"attempts/3/{names.FENCE}"} == MADE | TRACES


async def test_a_run_that_never_wrote_is_left_with_nothing(output: str) -> None:
    beside = parse_uri(f"{output}/other")
    Stores().put(beside, b"")

    await purge(output)

    assert [info.uri for info in Stores().list_objects(parse_uri(names.run_uri(output, JOB.uid)))] == []
    assert Stores().head(beside)


@pytest.mark.parametrize("gone", ["s3://no-such-bucket/out", "s3://[b/out"], ids=["bucket", "no URI"])
async def test_where_nothing_can_be_there_is_nothing_to_do(s3_environment: dict[str, str], gone: str) -> None:
    await purge(gone)


def store_away(patch: pytest.MonkeyPatch) -> None:
    patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")


def wrong_secret(patch: pytest.MonkeyPatch) -> None:
    patch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")


def no_credentials(patch: pytest.MonkeyPatch) -> None:
    patch.delenv("AWS_ACCESS_KEY_ID")
    patch.delenv("AWS_SECRET_ACCESS_KEY")


@pytest.mark.parametrize(
    ("trouble", "reason", "says"),
    [
        (store_away, Reason.STORE_UNAVAILABLE, "the store cannot be reached"),
        (wrong_secret, Reason.ACCESS_DENIED, "the secret key is not the one of the access key"),
        (no_credentials, Reason.ACCESS_DENIED, "no credentials for s3://"),
    ],
)
async def test_what_somebody_may_put_right_is_told_and_to_be_tried_again(
    s3_folder: str,
    monkeypatch: pytest.MonkeyPatch,
    trouble: Callable[[pytest.MonkeyPatch], None],
    reason: Reason,
    says: str,
) -> None:
    trouble(monkeypatch)

    with pytest.raises(ApplicationError, match=says) as caught:
        await purge(s3_folder)

    assert (caught.value.type, caught.value.non_retryable) == (reason, False)


class Reappearing(Stores):
    """A store in which something writes a checkpoint again each time that one is deleted."""

    def delete(self, uri: StoreUri) -> None:
        super().delete(uri)
        self.put(uri, b"again")


async def test_checkpoints_that_come_back_are_not_taken_for_deleted(run: Run) -> None:
    with pytest.raises(ApplicationError, match="checkpoints are still there after they were deleted"):
        await purge(run.output, Reappearing())
