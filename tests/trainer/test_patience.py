from __future__ import annotations

import pytest

from perdure_data.errors import AccessDenied, Unavailable
from perdure_trainer.failures import TemporaryError
from perdure_trainer.patience import Patience


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sleeps: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds

    def patience(self, seconds: float) -> Patience:
        return Patience(seconds, clock=lambda: self.now, sleep=self.sleep)


class Store:
    """Is away for the first calls."""

    def __init__(self, away: int) -> None:
        self.away = away

    def read(self) -> str:
        if self.away > 0:
            self.away -= 1
            raise Unavailable("s3://b/x: the store answers 503")
        return "content"


def test_a_store_that_comes_back_was_never_away() -> None:
    clock = Clock()
    assert clock.patience(60).call(Store(away=4).read) == "content"
    assert clock.sleeps == [0.5, 1, 2, 4]


def test_patience_has_an_end() -> None:
    clock = Clock()
    with pytest.raises(TemporaryError, match=r"s3://b/x: the store answers 503 \(waited 60 s for it\)"):
        clock.patience(60).call(Store(away=10**6).read)
    assert 45 <= clock.now <= 60
    assert max(clock.sleeps) == 15


def test_other_errors_are_not_waited_for() -> None:
    def refuse() -> None:
        raise AccessDenied("no")

    clock = Clock()
    with pytest.raises(AccessDenied):
        clock.patience(60).call(refuse)
    assert clock.sleeps == []
