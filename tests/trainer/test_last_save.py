"""What those who outlive a rank save. The store is real, and so are the ranks' writers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event

import pytest

from perdure_api.pod import CheckpointRef
from perdure_api.uri import StoreUri, parse_uri
from perdure_data.errors import Unavailable
from perdure_data.stores import Stores
from perdure_trainer import last_save
from perdure_trainer.checkpoints.repository import Repository
from perdure_trainer.checkpoints.writer import CheckpointWriter
from perdure_trainer.last_save import LAST_SAVE_TRIES, LastSave
from perdure_trainer.state import Snapshot
from perdure_trainer.topology import Topology
from tests.trainer.checkpoints.test_repository import FINGERPRINTS, settings, snapshot

RANKS = 3


@dataclass(frozen=True)
class Watched(Repository):
    """Tells of each look and save, where a test wants to know."""

    on_look: Callable[[], object] = lambda: None
    on_save: Callable[[], object] = lambda: None

    def saved_since(self, step: int) -> CheckpointRef | None:
        self.on_look()
        return super().saved_since(step)

    def save(self, snapshot: Snapshot) -> CheckpointRef:
        self.on_save()
        return super().save(snapshot)


@dataclass
class Rank:
    """One that has trained from step 3 to step 7, and lost another."""

    run: StoreUri
    number: int = 1
    attempt: int = 1
    on_look: Callable[[], object] = lambda: None
    on_save: Callable[[], object] = lambda: None
    take: Callable[[], Snapshot] = lambda: snapshot(7)
    from_step: int = 3
    now: float = 0.0
    writer: CheckpointWriter = field(init=False)

    def __post_init__(self) -> None:
        self.repository = Watched(
            Stores(),
            replace(settings(self.run, self.attempt), place=Topology(self.number, RANKS)),
            FINGERPRINTS,
            self.on_look,
            self.on_save,
        )
        self.writer = CheckpointWriter(self.repository, self.from_step, clock=lambda: self.now)

    def outlives(self, before_us: int = 0) -> str:
        return LastSave(self.writer, 7, self.take, clock=lambda: self.now).save_as_survivor(before_us)


@pytest.fixture
def run(tmp_path: Path) -> StoreUri:
    return parse_uri(f"file://{tmp_path}/runs/uid-1")


def folders(run: StoreUri) -> set[str]:
    """The checkpoints that are committed, by attempt, step and rank."""
    manifests = Path(run.path).glob("attempts/*/checkpoints/step-*/manifest.json")
    return {f"{path.parents[2].name}/{path.parent.name[:-8].rstrip('-')}" for path in manifests}


def test_the_first_of_those_who_are_left_saves_and_says_so(run: StoreUri) -> None:
    assert Rank(run, number=1).outlives() == "rank 1 saved step 7"
    assert folders(run) == {"1/step-00000007-rank1_"}


def test_who_comes_later_finds_what_is_saved(run: StoreUri) -> None:
    Rank(run, number=1).outlives()
    second = Rank(run, number=2)
    assert second.outlives(before_us=1) == "rank 1 saved step 7"
    assert second.writer.newest is not None
    assert second.writer.newest.step == 7
    assert len(folders(run)) == 1


def test_who_comes_later_waits_for_his_turn_and_no_longer(run: StoreUri) -> None:
    """The first dies too, or cannot reach the store: nobody can tell, so the next one only waits."""
    looks: list[float] = []

    def pass_time() -> None:
        looks.append(second.now)
        second.now += 0.5

    second = Rank(run, number=2, on_look=pass_time)
    assert second.outlives(before_us=1) == "rank 2 saved step 7"
    assert looks == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]


def test_a_checkpoint_of_an_earlier_step_or_attempt_is_none_of_this_one(run: StoreUri) -> None:
    Rank(run, number=0).repository.save(snapshot(6))
    assert Rank(run, number=1).outlives() == "rank 1 saved step 7"
    Rank(run, number=0, attempt=2).repository.save(snapshot(6))
    assert Rank(run, number=1, attempt=2).outlives() == "rank 1 saved step 7"
    assert "2/step-00000007-rank1_" in folders(run)


def test_where_nothing_was_trained_nothing_is_saved_or_said(run: StoreUri) -> None:
    assert Rank(run, from_step=7).outlives() == ""
    assert not folders(run)


def test_a_save_that_was_under_way_is_enough(run: StoreUri) -> None:
    rank = Rank(run, number=0)
    rank.writer.submit(snapshot(7))
    assert rank.outlives() == "rank 0 saved step 7"
    assert len(folders(run)) == 1


def away() -> None:
    raise Unavailable("the store is away")


def endless() -> Snapshot:
    spoilt = snapshot(7)
    spoilt.adapter["a"].fill_(math.inf)
    return spoilt


def out_of_memory() -> Snapshot:
    raise MemoryError("no room for a copy")


@pytest.mark.parametrize(
    ("rank", "why"),
    [
        pytest.param(lambda run: Rank(run, on_save=away), "the store is away", id="store away"),
        pytest.param(lambda run: Rank(run, on_look=away), "the store is away", id="store away at the first look"),
        pytest.param(lambda run: Rank(run, take=endless), "weights that are no numbers", id="diverged"),
        pytest.param(lambda run: Rank(run, take=out_of_memory), "no room for a copy", id="out of memory"),
    ],
)
def test_a_save_that_fails_is_said_and_hides_nothing(run: StoreUri, rank: Callable[[StoreUri], Rank], why: str) -> None:
    told = rank(run).outlives()
    assert told.startswith("step 7 is not saved: ")
    assert why in told
    assert not folders(run)


def test_a_store_that_was_away_for_a_moment_is_tried_again(run: StoreUri) -> None:
    tries = iter(range(LAST_SAVE_TRIES - 1))
    assert Rank(run, on_save=lambda: away() if next(tries, None) is not None else None).outlives() == (
        "rank 1 saved step 7"
    )


@pytest.mark.parametrize("at", ["at its look", "at its save"])
def test_nothing_is_saved_once_a_newer_attempt_has_begun(run: StoreUri, at: str) -> None:
    newer = Rank(run, number=0, attempt=2).repository
    rank = Rank(run, on_look=newer.claim) if at == "at its look" else Rank(run, on_save=newer.claim)
    assert rank.outlives() == ("step 7 is not saved: attempt 2 has taken over; attempt 1 ends without a trace")
    assert not folders(run)


def test_a_store_that_does_not_answer_is_not_waited_for(run: StoreUri, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_save, "PEER_LOST_SAVE_SECONDS", 0.05)
    answers = Event()
    try:
        assert Rank(run, on_look=answers.wait).outlives() == "step 7 is not saved: 0 s were not enough"
    finally:
        answers.set()
