from __future__ import annotations

import pytest

from perdure_api.spec import Scheduler, TrainingSpec
from perdure_trainer.schedule import learning_rate, total_steps
from perdure_trainer.state import Position


@pytest.mark.parametrize(
    ("training", "sequences", "steps"),
    [
        pytest.param(TrainingSpec(max_steps=7), 1000, 7, id="steps"),
        pytest.param(TrainingSpec(epochs=1, batch_size=4), 100, 25, id="one epoch"),
        pytest.param(TrainingSpec(epochs=1, batch_size=4), 101, 26, id="a rest is a step"),
        pytest.param(
            TrainingSpec(epochs=2.5, batch_size=2, gradient_accumulation_steps=5), 100, 25, id="half an epoch"
        ),
        pytest.param(TrainingSpec(epochs=0.001), 3, 1, id="at least one"),
        pytest.param(TrainingSpec(epochs=3, batch_size=64), 5, 1, id="batch larger than the data"),
    ],
)
def test_counts_steps(training: TrainingSpec, sequences: int, steps: int) -> None:
    assert total_steps(training, sequences) == steps


@pytest.mark.parametrize(("ranks", "steps"), [(1, 5 + 20), (2, 5 + 10), (3, 5 + 7)])
def test_what_is_left_of_the_epochs_is_shared_by_the_ranks_that_are_there(ranks: int, steps: int) -> None:
    training = TrainingSpec(epochs=1, batch_size=4)
    assert total_steps(training, 100, ranks, Position(step=5, samples=20)) == steps


def test_a_run_that_is_over_stays_as_long_as_it_is() -> None:
    training = TrainingSpec(epochs=1, batch_size=4)
    assert total_steps(training, 100, 2, Position(step=25, samples=104)) == 25


@pytest.mark.parametrize(
    ("scheduler", "rates"),
    [
        (Scheduler.CONSTANT, [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
        (Scheduler.LINEAR, [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]),
        (Scheduler.COSINE, [0.5, 1.0, 1.0, 0.853553, 0.5, 0.146447]),
    ],
)
def test_warms_up_and_falls(scheduler: Scheduler, rates: list[float]) -> None:
    training = TrainingSpec(max_steps=6, learning_rate=1.0, warmup_steps=2, scheduler=scheduler)
    assert [learning_rate(training, step, 6) for step in range(6)] == pytest.approx(rates, abs=1e-6)


@pytest.mark.parametrize("scheduler", Scheduler)
def test_a_warm_up_longer_than_the_run_is_only_a_warm_up(scheduler: Scheduler) -> None:
    training = TrainingSpec(max_steps=2, learning_rate=1.0, warmup_steps=10, scheduler=scheduler)
    assert [learning_rate(training, step, 2) for step in range(2)] == pytest.approx([0.1, 0.2])
