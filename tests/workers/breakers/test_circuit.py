"""What was tried → whether more is to be tried."""

from __future__ import annotations

import pytest

from perdure_control.factory.breaker import Breaker
from perdure_control.factory.errors import EntryError
from perdure_workers.breakers.circuit import Circuit, State

BREAKER = Breaker(failure_rate=0.5, least=4, window_seconds=60, pause_seconds=30, longest_pause_seconds=100)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuit(clock: Clock) -> Circuit:
    return Circuit(BREAKER, clock)


def tried(circuit: Circuit, clock: Clock, outcomes: str, work: str = "work") -> None:
    """One piece of work for each letter: f failed, s succeeded."""
    for number, outcome in enumerate(outcomes):
        circuit.note(f"{work}-{number}", clock.now, failed=outcome == "f")


def opened(circuit: Circuit, clock: Clock) -> None:
    tried(circuit, clock, "ffff")
    assert circuit.state is State.OPEN


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ("fff", State.CLOSED),
        ("ffff", State.OPEN),
        ("sfsf", State.OPEN),
        ("ssfsf", State.CLOSED),
        ("ssssffff", State.OPEN),
        ("ffss", State.CLOSED),
    ],
    ids=["too few", "all", "half", "less than half", "half, at last", "a success never opens it"],
)
def test_it_opens_when_enough_failed_of_enough(circuit: Circuit, clock: Clock, outcomes: str, state: State) -> None:
    tried(circuit, clock, outcomes)

    assert circuit.state is state


def test_one_piece_of_work_that_fails_again_and_again_is_one(circuit: Circuit, clock: Clock) -> None:
    for _ in range(50):
        circuit.note("a broken input", clock.now, failed=True)

    assert circuit.state is State.CLOSED


def test_work_that_succeeded_in_the_end_counts_as_that(circuit: Circuit, clock: Clock) -> None:
    tried(circuit, clock, "fff")
    tried(circuit, clock, "sss")
    tried(circuit, clock, "f", "another")

    assert circuit.state is State.CLOSED


def test_what_was_before_the_window_counts_no_more(circuit: Circuit, clock: Clock) -> None:
    tried(circuit, clock, "fff")
    clock.now += 61
    tried(circuit, clock, "f", "another")

    assert circuit.state is State.CLOSED


def test_after_its_pause_it_is_half_open(circuit: Circuit, clock: Clock) -> None:
    opened(circuit, clock)
    clock.now += 29
    assert (circuit.state, circuit.seconds_to_probe()) == (State.OPEN, 1)

    clock.now += 1

    assert (circuit.state, circuit.seconds_to_probe()) == (State.HALF_OPEN, 0)


def test_a_probe_that_succeeds_closes_it_and_what_was_is_forgotten(circuit: Circuit, clock: Clock) -> None:
    opened(circuit, clock)
    clock.now += 30
    circuit.note("probe", clock.now, failed=False)
    assert circuit.state is State.CLOSED

    tried(circuit, clock, "fff", "later")

    assert circuit.state is State.CLOSED


def test_each_probe_that_fails_doubles_the_pause_up_to_the_longest(circuit: Circuit, clock: Clock) -> None:
    opened(circuit, clock)
    pauses = []
    for _ in range(4):
        pauses.append(circuit.seconds_to_probe())
        clock.now += circuit.seconds_to_probe()
        circuit.note("probe", clock.now, failed=True)

    assert pauses == [30, 60, 100, 100]


def test_after_it_has_closed_the_first_pause_is_short_again(circuit: Circuit, clock: Clock) -> None:
    opened(circuit, clock)
    clock.now += 30
    circuit.note("probe", clock.now, failed=True)
    clock.now += 60
    circuit.note("probe", clock.now, failed=False)

    opened(circuit, clock)

    assert circuit.seconds_to_probe() == 30


@pytest.mark.parametrize("failed", [True, False])
def test_what_began_before_it_opened_neither_closes_it_nor_lengthens_its_pause(
    circuit: Circuit, clock: Clock, *, failed: bool
) -> None:
    began = clock.now - 1
    opened(circuit, clock)
    clock.now += 10

    circuit.note("late", began, failed=failed)

    assert (circuit.state, circuit.seconds_to_probe()) == (State.OPEN, 20)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"failure_rate": 0}, "failure_rate is 0; expected a share above 0"),
        ({"failure_rate": 1.1}, "at most 1"),
        ({"least": 0}, "expected 1 or more"),
        ({"window_seconds": 0}, "expected more than 0 s"),
        ({"pause_seconds": 400}, "the longest pause to be no shorter"),
    ],
    ids=["never", "more than all", "of nothing", "no window", "pauses"],
)
def test_one_that_could_never_open_or_close_is_refused(wrong: dict[str, float], says: str) -> None:
    with pytest.raises(EntryError, match=says):
        Breaker(**wrong)  # type: ignore[arg-type]
