"""The demand of a task queue, by what was read and when."""

from __future__ import annotations

from dataclasses import replace

import pytest

from perdure_scaler.demand import CONFIRMED_WITHIN_SECONDS, Known, Readings, Series, Unknown

HOLD = 60.0
NOW = 1000.0


def backlog(*counts: int, every: float = 5.0, until: float = NOW) -> Series:
    """A backlog as it was read, the last time at a certain moment."""
    series = Series()
    for index, count in enumerate(counts):
        series = series.read_again(count, until - every * (len(counts) - 1 - index))
    return series


def slots(count: int, at: float = NOW) -> Series:
    return Series().read(count, at)


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        pytest.param(Readings(backlog(0, 0), slots(0)), Known(0, 0), id="idle"),
        pytest.param(Readings(backlog(7, 7), slots(0)), Known(7, 0), id="nobody works yet"),
        pytest.param(Readings(backlog(7, 0), slots(5)), Known(0, 5), id="all taken, all busy: not zero"),
        pytest.param(Readings(backlog(3, 200), slots(20)), Known(200, 20), id="a spike"),
        pytest.param(Readings(backlog(-1, -1), slots(1)), Known(0, 1), id="an approximate count below nothing"),
    ],
)
def test_demand_is_backlog_and_slots_in_use(readings: Readings, expected: Known) -> None:
    demand = readings.demand(NOW, HOLD)

    assert demand == expected
    assert isinstance(demand, Known)
    assert demand.total == expected.backlog + expected.slots


@pytest.mark.parametrize(
    ("readings", "why"),
    [
        pytest.param(Readings(), "Its backlog: not read yet; The slots in use: not read yet", id="just started"),
        pytest.param(
            Readings(backlog(0), slots(0)), "which a second reading has yet to confirm", id="one zero is no zero"
        ),
        pytest.param(Readings(backlog(4, 4), Series()), "The slots in use: not read yet", id="no list of pods yet"),
        pytest.param(
            Readings(Series().failed("no answer from Temporal: NOT_FOUND"), slots(3)),
            "Its backlog: no answer from Temporal: NOT_FOUND",
            id="a Temporal namespace that is not there",
        ),
    ],
)
def test_what_was_never_read_is_unknown_and_not_zero(readings: Readings, why: str) -> None:
    demand = readings.demand(NOW, HOLD)

    assert isinstance(demand, Unknown)
    assert why in demand.why


@pytest.mark.parametrize("seconds", [0.0, 30.0, HOLD])
def test_what_was_read_last_is_held_for_a_while_when_temporal_is_away(seconds: float) -> None:
    readings = Readings(backlog(9, 9).failed("no answer"), slots(2, at=NOW + seconds))

    assert readings.demand(NOW + seconds, HOLD) == Known(9, 2)


@pytest.mark.parametrize("part", ["backlog", "slots"])
def test_after_that_while_it_is_unknown_and_never_zero(part: str) -> None:
    later = NOW + HOLD + 1
    whole = Readings(backlog(9, 9, until=later), slots(2, at=later))
    old = {"backlog": backlog(9, 9).failed("gone"), "slots": slots(2).failed("gone")}

    demand = replace(whole, **{part: old[part]}).demand(later, HOLD)

    assert isinstance(demand, Unknown)
    assert "last read 61 s ago, which counts for 60 s (gone)" in demand.why


def test_the_first_answer_after_a_silence_is_not_believed_over_the_one_before() -> None:
    """A Temporal that comes back counts from an empty memory at first."""
    back = NOW + CONFIRMED_WITHIN_SECONDS + 1

    once = backlog(9, 9).failed("no answer").read_again(0, back)
    twice = once.read_again(8, back + 5)

    assert Readings(once, slots(0, at=back)).demand(back, HOLD) == Known(9, 0)
    assert Readings(twice, slots(0, at=back)).demand(back + 5, HOLD) == Known(8, 0)


def test_a_short_silence_needs_no_second_reading() -> None:
    series = backlog(9, 9).failed("no answer").read_again(0, NOW + CONFIRMED_WITHIN_SECONDS)

    assert Readings(series, slots(0)).demand(NOW + CONFIRMED_WITHIN_SECONDS, HOLD) == Known(0, 0)
