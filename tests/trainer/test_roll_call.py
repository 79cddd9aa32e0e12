from __future__ import annotations

import math
from typing import Any

import pytest

from perdure_trainer.roll_call import HANG_SECONDS, PERIOD_SECONDS, SILENCE_SECONDS, Peers


class Told:
    """Three ranks, of which we are one, and time that passes in periods."""

    def __init__(self, own: int) -> None:
        self.peers = Peers(own, ["pod-0", "pod-1", "pod-2"])
        self.words: list[dict[str, Any]] = [{"beat": 0, "arrived": 0} for _ in range(3)]
        self.now = 100.0
        self.silent: set[int] = set()
        self.stuck: set[int] = set()
        self.store_answers = True
        self.pass_time(PERIOD_SECONDS)

    def pass_time(self, seconds: float) -> None:
        for _ in range(math.ceil(seconds / PERIOD_SECONDS)):
            self.now += PERIOD_SECONDS
            for rank, word in enumerate(self.words):
                word["beat"] += rank not in self.silent
                word["arrived"] += rank not in self.silent | self.stuck
            if self.store_answers:
                self.peers.hear([dict(word) for word in self.words], self.now)

    def lost(self, waited: float = 0.0) -> str | None:
        arrived = self.words[self.peers.own]["arrived"] + 1
        return self.peers.lost(self.now, arrived, waited=waited, hang_seconds=HANG_SECONDS)


def test_nobody_is_lost_while_all_get_on() -> None:
    told = Told(own=1)
    told.pass_time(1000)
    assert told.lost() is None


def test_a_rank_that_falls_silent_is_lost_and_named() -> None:
    told = Told(own=0)
    told.silent = {2}
    told.pass_time(SILENCE_SECONDS - PERIOD_SECONDS)
    assert told.lost() is None
    told.pass_time(PERIOD_SECONDS)
    assert told.lost() == "rank 2 (pod-2) is gone: no sign of life for 16 s"


def test_a_rank_that_lives_but_keeps_others_waiting_hangs() -> None:
    told = Told(own=0)
    told.words[2]["arrived"] += 1  # it waits beside us
    told.pass_time(PERIOD_SECONDS)
    assert told.lost(waited=HANG_SECONDS - 1) is None
    expected = "rank 1 (pod-1) hangs: it is alive, but has kept the others waiting for 19 s"
    assert told.lost(waited=HANG_SECONDS + 1) == expected


def test_nobody_hangs_while_none_is_waited_for() -> None:
    """What comes before the first step, such as loading a model, takes minutes, and differs from rank to rank."""
    told = Told(own=0)
    told.stuck = {1, 2}
    told.pass_time(600)
    assert told.lost(waited=1.0) is None


@pytest.mark.parametrize(("own", "sentence"), [(1, "rank 0 (pod-0) is gone: it has not answered for 16 s"), (0, None)])
def test_a_store_that_does_not_answer_is_rank_0s_loss(own: int, sentence: str | None) -> None:
    told = Told(own)
    told.store_answers = False
    told.pass_time(SILENCE_SECONDS)
    assert told.lost() == sentence


def test_a_store_that_was_away_for_a_moment_makes_nobody_silent() -> None:
    told = Told(own=2)
    told.store_answers = False
    told.pass_time(SILENCE_SECONDS - PERIOD_SECONDS)
    told.store_answers = True
    told.pass_time(PERIOD_SECONDS)
    assert told.lost() is None


@pytest.mark.parametrize(
    ("own", "silent", "expected"),
    [
        pytest.param(0, {1}, 0, id="rank 0 is the first"),
        pytest.param(2, set(), 2, id="all are there"),
        pytest.param(2, {1}, 1, id="one is silent"),
        pytest.param(1, {2}, 1, id="a later one does not matter"),
    ],
)
def test_it_is_known_how_many_of_those_before_us_are_there(own: int, silent: set[int], expected: int) -> None:
    told = Told(own)
    told.silent = silent
    told.pass_time(SILENCE_SECONDS)
    assert told.peers.before_us(told.now) == expected


def test_of_those_before_us_one_that_took_leave_is_not_there() -> None:
    told = Told(own=2)
    told.words[1]["farewell"] = "rank 1 (pod-1) has ended: out of memory"
    told.pass_time(PERIOD_SECONDS)
    assert told.peers.before_us(told.now) == 1


def test_with_the_store_goes_rank_0_and_the_others_count_as_last_heard_of() -> None:
    told = Told(own=2)
    assert told.peers.before_us(told.now, store_is_gone=True) == 1
    told.store_answers = False
    told.pass_time(SILENCE_SECONDS)
    assert told.peers.before_us(told.now) == 1


@pytest.mark.parametrize(
    ("farewell", "sentence"),
    [
        ("rank 1 (pod-1) has ended: out of memory", "rank 1 (pod-1) has ended: out of memory"),
        ("", "rank 1 (pod-1) has ended"),
    ],
    ids=["error", "plain"],
)
def test_a_farewell_is_passed_on(farewell: str, sentence: str) -> None:
    told = Told(own=0)
    told.words[1]["farewell"] = farewell
    told.pass_time(PERIOD_SECONDS)
    assert told.lost() == sentence
