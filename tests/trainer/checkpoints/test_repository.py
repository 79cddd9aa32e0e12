from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from structlog.testing import capture_logs

from perdure_api.spec import CheckpointSpec, DatasetSpec, LoraSpec, ModelSpec, TrainingSpec
from perdure_api.uri import StoreUri, parse_uri
from perdure_data.stores import ObjectInfo, Stores
from perdure_trainer.checkpoints.manifest import MANIFEST_NAME
from perdure_trainer.checkpoints.payload import FILES
from perdure_trainer.checkpoints.repository import Committed, Repository, committed, expendable, rank_of
from perdure_trainer.failures import ConfigError, Fenced
from perdure_trainer.losses import Point
from perdure_trainer.memory import MemoryKills
from perdure_trainer.settings import Settings
from perdure_trainer.state import Position, Randomness, Snapshot
from perdure_trainer.topology import Topology

FINGERPRINTS = {"model": "sha256:m", "dataset": "sha256:d"}
LIMIT = 2**20


def settings(run_uri: StoreUri, attempt: int, keep: int = 2) -> Settings:
    return Settings(
        job_uid="uid-1",
        job_name="job",
        attempt=attempt,
        run_uri=run_uri,
        scratch=Path("/nonexistent"),
        model=ModelSpec(uri="s3://b/model"),
        dataset=DatasetSpec(uri="s3://b/train.jsonl"),
        lora=LoraSpec(),
        training=TrainingSpec(max_steps=10),
        checkpoint=CheckpointSpec(keep=keep),
    )


def repository(stores: Stores, run_uri: StoreUri, attempt: int = 1, **options: Any) -> Repository:
    return Repository(stores, settings(run_uri, attempt, **options), FINGERPRINTS)


def snapshot(step: int) -> Snapshot:
    randomness = Randomness.now()
    return Snapshot(
        position=Position(step=step, samples=4 * step, train_loss=0.1 + step),
        adapter={"a": torch.full((3,), float(step)), "b": torch.zeros(2, 2)},
        optimizer={"a|step": torch.tensor(float(step)), "a|exp_avg": torch.ones(3)},
        randomness=randomness.tensors,
        generators=randomness.generators,
        losses=(Point(1, 2.5), Point(step, 0.1 + step)),
    )


def steps(stores: Stores, run_uri: StoreUri) -> list[tuple[int, int]]:
    return [(each.attempt, each.step) for each in committed(info.uri for info in stores.list_objects(run_uri))]


def loaded_step(found: tuple[Committed, Snapshot] | None) -> int | None:
    return found[1].position.step if found else None


def test_what_was_saved_is_loaded(stores: Stores, run_uri: StoreUri) -> None:
    saved = snapshot(5)
    reference = repository(stores, run_uri).save(saved)
    found = repository(stores, run_uri, attempt=2).load_newest()
    assert found is not None
    checkpoint, loaded = found
    assert (str(checkpoint.folder), checkpoint.step, checkpoint.attempt) == (reference.uri, 5, 1)
    assert loaded.position == saved.position
    assert loaded.losses == saved.losses
    assert loaded.generators == json.loads(json.dumps(saved.generators))
    for name in ("adapter", "optimizer", "randomness"):
        left, right = getattr(loaded, name), getattr(saved, name)
        assert left.keys() == right.keys()
        assert all(torch.equal(left[key], right[key]) for key in left)


def test_a_run_without_checkpoints_begins_afresh(stores: Stores, run_uri: StoreUri) -> None:
    repository(stores, run_uri).claim()
    assert repository(stores, run_uri).load_newest() is None


def test_the_head_names_the_newest(stores: Stores, run_uri: StoreUri) -> None:
    repository(stores, run_uri).save(snapshot(5))
    reference = repository(stores, run_uri).save(snapshot(6))
    head = json.loads(stores.read(run_uri.child("attempts/1/checkpoints/latest.json"), limit_bytes=LIMIT))
    assert (head["uri"], head["step"]) == (reference.uri, 6)


def test_the_newest_step_counts_whichever_attempt_made_it(stores: Stores, run_uri: StoreUri) -> None:
    repository(stores, run_uri, attempt=1).save(snapshot(9))
    repository(stores, run_uri, attempt=2).save(snapshot(7))
    assert loaded_step(repository(stores, run_uri, attempt=3).load_newest()) == 9


def newest_file(stores: Stores, run_uri: StoreUri, name: str) -> StoreUri:
    return committed(info.uri for info in stores.list_objects(run_uri))[0].folder.child(name)


@pytest.mark.parametrize("name", ["adapter.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "flipped", "longer"])
def test_a_damaged_checkpoint_is_passed_over_and_named(
    stores: Stores, run_uri: StoreUri, name: str, damage: str
) -> None:
    repository(stores, run_uri).save(snapshot(1))
    repository(stores, run_uri).save(snapshot(2))
    uri = newest_file(stores, run_uri, name)
    content = stores.read(uri, limit_bytes=LIMIT)
    changed = {
        "empty": b"",
        "cut": content[: len(content) // 2],
        "flipped": bytes([content[0] ^ 1]) + content[1:],
        "longer": content + b"x",
    }
    if damage == "missing":
        stores.delete(uri)
    else:
        stores.put(uri, changed[damage])
    broken: dict[Committed, str] = {}
    found = repository(stores, run_uri, attempt=2).load_newest(broken.__setitem__)
    assert loaded_step(found) == 1
    # Without its manifest it was never committed: nothing broke.
    assert [each.step for each in broken] == [2] * ((name, damage) != ("manifest.json", "missing"))


def test_a_checkpoint_of_the_future_is_passed_over(stores: Stores, run_uri: StoreUri) -> None:
    repository(stores, run_uri).save(snapshot(1))
    uri = newest_file(stores, run_uri, "manifest.json")
    manifest = json.loads(stores.read(uri, limit_bytes=LIMIT))
    stores.put(uri, json.dumps({**manifest, "format": 99}).encode())
    with capture_logs() as logs:
        assert repository(stores, run_uri).load_newest() is None
    assert "format 99 is of a newer trainer" in logs[0]["message"]


def test_an_unfinished_save_is_no_checkpoint(stores: Stores, run_uri: StoreUri) -> None:
    repository(stores, run_uri).save(snapshot(1))
    stores.put(run_uri.child("attempts/1/checkpoints/step-00000009-aaaaaaaa/adapter.safetensors"), b"half")
    assert loaded_step(repository(stores, run_uri).load_newest()) == 1


@pytest.mark.parametrize(
    ("fingerprints", "changes", "sentence"),
    [
        ({"model": "sha256:other"}, {}, "another model; a run cannot change its course"),
        (
            {"config": "sha256:c"},
            {"lora": LoraSpec(rank=8), "training": TrainingSpec(max_steps=10, sequence_length=64)},
            r"another config \(lora.rank 16 instead of 8; training.sequenceLength 512 instead of 64\)",
        ),
    ],
    ids=["model", "config"],
)
def test_a_checkpoint_of_another_course_is_refused(
    stores: Stores, run_uri: StoreUri, fingerprints: dict[str, str], changes: dict[str, Any], sentence: str
) -> None:
    repository(stores, run_uri).save(snapshot(1))
    other = Repository(stores, replace(settings(run_uri, 2), **changes), {**FINGERPRINTS, **fingerprints})
    with pytest.raises(ConfigError, match=sentence):
        other.load_newest()


def test_an_attempt_ends_when_a_newer_one_has_left_a_trace(stores: Stores, run_uri: StoreUri) -> None:
    old, new = repository(stores, run_uri, attempt=1), repository(stores, run_uri, attempt=2)
    old.claim()
    old.save(snapshot(1))
    new.claim()
    with pytest.raises(Fenced, match="attempt 2 has taken over; attempt 1 ends"):
        old.save(snapshot(2))
    with pytest.raises(Fenced):
        old.claim()
    assert steps(stores, run_uri) == [(1, 1)]


def test_keeps_the_newest_and_deletes_the_rest_whole(stores: Stores, run_uri: StoreUri) -> None:
    kept = repository(stores, run_uri, keep=2)
    for step in range(1, 5):
        kept.save(snapshot(step))
        kept.prune()
    assert steps(stores, run_uri) == [(1, 4), (1, 3)]
    folders = {info.uri.path.rpartition("/")[0] for info in stores.list_objects(run_uri)}
    assert len(folders) == 3  # two checkpoints and the head beside them


def at(attempt: int, step: int) -> Committed:
    return Committed(step=step, attempt=attempt, folder=parse_uri(f"s3://b/{attempt}/{step}"))


@pytest.mark.parametrize(
    ("checkpoints", "attempt", "doomed"),
    [
        pytest.param([at(1, 3), at(1, 2)], 1, [], id="as many as are kept"),
        pytest.param([at(1, 3), at(1, 2), at(1, 1)], 1, [at(1, 1)], id="one more"),
        pytest.param([at(1, 9), at(2, 5), at(1, 4)], 2, [], id="one of its own is not enough"),
        pytest.param(
            [at(1, 9), at(2, 6), at(2, 5), at(1, 4)], 2, [at(1, 9), at(1, 4)], id="a later step may be broken"
        ),
        pytest.param([at(3, 9), at(2, 6), at(2, 5), at(2, 4)], 2, [at(2, 4)], id="nothing of a newer attempt"),
    ],
)
def test_what_may_be_deleted(checkpoints: list[Committed], attempt: int, doomed: list[Committed]) -> None:
    assert expendable(checkpoints, attempt, keep=2) == doomed


def test_what_killed_saves_left_behind_is_deleted_but_not_a_newer_attempts_save(
    stores: Stores, run_uri: StoreUri
) -> None:
    begun = "attempts/{}/checkpoints/step-00000009-aaaaaaaa/adapter.safetensors"
    for attempt in (1, 2, 3):
        stores.put(run_uri.child(begun.format(attempt)), b"half")
    second = repository(stores, run_uri, attempt=2)
    Repository(stores, settings(run_uri, 1), FINGERPRINTS).prune()
    second.prune()
    assert [info.uri for info in stores.list_objects(run_uri)] == [run_uri.child(begun.format(3))]


class Interrupted(Repository):
    """Somebody else comes in between the files of each save and its commit."""

    def between(self, action: Callable[[], object]) -> Interrupted:
        object.__setattr__(self, "action", action)  # the class is frozen
        return self

    def refuse_if_fenced(self) -> None:
        vars(self)["action"]()
        super().refuse_if_fenced()


@pytest.mark.parametrize(
    ("step", "other_step"), [pytest.param(7, 7, id="the same step"), pytest.param(7, 6, id="the one before")]
)
def test_two_ranks_that_both_think_the_other_lost_do_each_other_no_harm(
    stores: Stores, run_uri: StoreUri, step: int, other_step: int
) -> None:
    """Rank 0 saves and tidies up whenever it likes, also while rank 1 saves: whatever is committed can be loaded."""
    zero = repository(stores, run_uri)
    own = replace(zero.settings, place=Topology(1, 2))

    def zero_trains_on() -> None:
        for each in (3, other_step):
            zero.save(snapshot(each))
            zero.prune()

    reference = Interrupted(stores, own, FINGERPRINTS).between(zero_trains_on).save(snapshot(step))
    zero.prune()
    broken: list[str] = []
    found = repository(stores, run_uri, attempt=2).load_newest(lambda _, why: broken.append(why))
    assert found is not None
    assert (found[0].step, found[1].position) == (step, snapshot(step).position)
    assert not broken
    assert rank_of(reference) == 1


def test_what_a_killed_save_of_another_rank_left_behind_is_the_next_attempts_to_delete(
    stores: Stores, run_uri: StoreUri
) -> None:
    half = run_uri.child("attempts/1/checkpoints/step-00000009-rank1_aaaaaaaa/adapter.safetensors")
    stores.put(half, b"half")
    repository(stores, run_uri, attempt=1).prune()
    assert [info.uri for info in stores.list_objects(run_uri)] == [half]
    repository(stores, run_uri, attempt=2).prune()
    assert not list(stores.list_objects(run_uri))


def test_a_listing_that_does_not_know_the_newest_manifest_costs_nothing(run_uri: StoreUri) -> None:
    """Its payload alone looks like a save that was never finished."""

    class Late(Stores):
        def list_objects(self, folder: StoreUri) -> list[ObjectInfo]:
            unknown = re.compile(rf"/step-00000002-\w+/{MANIFEST_NAME}$")
            return [info for info in super().list_objects(folder) if not unknown.search(info.uri.path)]

    late = repository(Late(), run_uri)
    for step in (1, 2):
        late.save(snapshot(step))
        late.prune()
    assert steps(Stores(), run_uri) == [(1, 2), (1, 1)]
    assert repository(Stores(), run_uri).load_newest() is not None
    assert len(Stores().list_objects(run_uri)) == 2 * (len(FILES) + 1) + 1


class OldListings(Stores):
    """No listing knows of anything."""

    def list_objects(self, folder: StoreUri) -> list[ObjectInfo]:
        return []

    def children(self, folder: StoreUri) -> tuple[list[ObjectInfo], list[StoreUri]]:
        return [], []


def test_the_newest_checkpoint_is_found_though_no_listing_knows_it(run_uri: StoreUri) -> None:
    """Also behind an attempt that saved nothing."""
    for step in (5, 6):
        repository(Stores(), run_uri, attempt=1).save(snapshot(step))
    repository(Stores(), run_uri, attempt=2).claim()
    assert loaded_step(repository(OldListings(), run_uri, attempt=3).load_newest()) == 6


def test_what_a_listing_knows_and_what_the_head_names_is_looked_at_once(run_uri: StoreUri) -> None:
    """A broken one would be told of twice."""
    repository(Stores(), run_uri).save(snapshot(1))
    Stores().delete(newest_file(Stores(), run_uri, "state.json"))
    broken: list[Committed] = []
    assert repository(Stores(), run_uri, attempt=2).load_newest(lambda each, _: broken.append(each)) is None
    assert [each.step for each in broken] == [1]


NOWHERE = "step-00000009-aaaaaaaa"


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(None, id="missing"),
        pytest.param("", id="empty"),
        pytest.param('{"uri": 7}', id="nonsense"),
        pytest.param('{"uri": "file:///nowhere", "step": 9}', id="to no checkpoint"),
        pytest.param(f'{{"uri": "s3://other/run/attempts/1/checkpoints/{NOWHERE}", "step": 9}}', id="out of the run"),
        pytest.param(f'{{"uri": "{{own}}/{NOWHERE}", "step": 9}}', id="to one that was deleted"),
        pytest.param('{"uri": "{own}/..", "step": 9}', id="upwards"),
    ],
)
def test_a_head_that_leads_nowhere_is_as_good_as_none(stores: Stores, run_uri: StoreUri, head: str | None) -> None:
    repository(stores, run_uri).save(snapshot(5))
    own = run_uri.child("attempts/1/checkpoints")
    if head is None:
        stores.delete(own.child("latest.json"))
    else:
        stores.put(own.child("latest.json"), head.replace("{own}", str(own)).encode())
    broken: list[Committed] = []
    found = repository(stores, run_uri, attempt=2).load_newest(lambda each, _: broken.append(each))
    assert (loaded_step(found), broken) == (5, [])


def test_an_attempt_ends_when_the_next_has_begun_though_no_listing_knows_it(run_uri: StoreUri) -> None:
    old = repository(OldListings(), run_uri, attempt=1)
    old.claim()
    repository(Stores(), run_uri, attempt=2).claim()
    with pytest.raises(Fenced, match="attempt 2 has taken over"):
        old.save(snapshot(1))
    assert steps(Stores(), run_uri) == []


def test_an_attempt_hears_how_the_one_before_began(stores: Stores, run_uri: StoreUri) -> None:
    kills = MemoryKills(group="here", count=3)
    assert repository(stores, run_uri, attempt=1).claim(kills) is None
    before = repository(stores, run_uri, attempt=2).claim()
    assert before is not None
    assert before.memory_kills == kills
    stores.put(run_uri.child("attempts/2/started.json"), b"{")
    assert repository(stores, run_uri, attempt=3).claim() is None


def test_a_pruned_checkpoint_is_gone_for_readers_first(run_uri: StoreUri) -> None:
    """Its manifest goes first: a reader in between sees no checkpoint rather than a broken one."""
    deleted: list[str] = []

    class Recording(Stores):
        def delete(self, uri: StoreUri) -> None:
            deleted.append(uri.path.rpartition("/")[2])
            super().delete(uri)

    kept = repository(Recording(), run_uri, keep=2)
    for step in range(1, 4):
        kept.save(snapshot(step))
    kept.prune()
    assert deleted[0] == "manifest.json"
    assert len(deleted) == 5
