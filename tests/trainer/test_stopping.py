from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from perdure_trainer.failures import Stopped
from perdure_trainer.stopping import StopSignal


@pytest.fixture
def stop() -> Iterator[StopSignal]:
    before = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT)]
    installed = StopSignal()
    installed.install()
    yield installed
    for number, handler in before:
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_what_has_nothing_to_save_at_once(stop: StopSignal, number: signal.Signals) -> None:
    with pytest.raises(Stopped, match=f"stopped by {number.name}"):
        os.kill(os.getpid(), number)
    assert stop.requested


def test_where_there_is_something_to_save_a_signal_only_asks(stop: StopSignal) -> None:
    with stop.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
    with pytest.raises(Stopped):
        stop.raise_if_requested()


def test_what_was_asked_before_is_not_begun(stop: StopSignal) -> None:
    stop.request("stopped on command")
    with pytest.raises(Stopped, match="stopped on command"), stop.deferred():
        pytest.fail("began all the same")


def test_who_asked_first_is_named(stop: StopSignal) -> None:
    stop.request("stopped on command")
    stop.request("stopped by SIGTERM")
    assert stop.because == "stopped on command"
