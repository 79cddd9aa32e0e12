from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from perdure_cli import phrases

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-5, "0 s"),
        (0.4, "0 s"),
        (12, "12 s"),
        (60, "1 min"),
        (192, "3 min 12 s"),
        (3600, "1 h"),
        (7503, "2 h 5 min"),
        (86_400 * 4 + 10, "4 d"),
        (86_400 * 4 + 7200, "4 d 2 h"),
    ],
)
def test_duration(seconds: float, expected: str) -> None:
    assert phrases.duration(seconds) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-1, "0s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (172_799, "47h"), (172_800, "2d")],
)
def test_age(seconds: float, expected: str) -> None:
    assert phrases.age(seconds) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0"), (300, "300"), (12345, "12,345"), (2.31415, "2.314"), (0.0002, "0.0002"), (1234.5678, "1,235")],
)
def test_number(value: float, expected: str) -> None:
    assert phrases.number(value) == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_said_as_it_is(value: float) -> None:
    """A diverged loss is shown, not stumbled over."""
    assert phrases.number(value) == str(value)


@pytest.mark.parametrize(
    ("when", "expected"),
    [(NOON, "14:00:00"), (NOON - timedelta(days=1), "2026-11-21 14:00:00")],
    ids=["today", "another day"],
)
def test_clock_is_of_the_readers_zone(when: datetime, expected: str) -> None:
    assert phrases.clock(when, timezone(timedelta(hours=2)), today=NOON) == expected
