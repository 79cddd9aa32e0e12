from __future__ import annotations

import pytest

from perdure_trainer.evaluation import evaluate, spread
from perdure_trainer.failures import Stopped
from perdure_trainer.stopping import StopSignal
from tests.trainer.toy import Plane, ToyModel


def test_the_mean_does_not_depend_on_the_batch_size() -> None:
    model = ToyModel()
    results = [evaluate(model, Plane(), size, StopSignal()) for size in (1, 7, 100)]
    assert [result.metrics["eval_loss"] for result in results] == pytest.approx([results[0].metrics["eval_loss"]] * 3)
    assert [(result.samples, result.counts) for result in results] == [(100, {"points": 100})] * 3


def test_dropout_is_off_while_measuring_and_on_again_behind_it() -> None:
    model = ToyModel()
    model.module.train()
    assert evaluate(model, Plane(), 9, StopSignal()) == evaluate(model, Plane(), 9, StopSignal())
    assert model.module.training


def test_a_stop_ends_a_measurement() -> None:
    stop = StopSignal()
    stop.request("enough")
    with pytest.raises(Stopped, match="enough"):
        evaluate(ToyModel(), Plane(), 9, stop)


@pytest.mark.parametrize(
    ("count", "limit", "chosen"), [(3, 5, [0, 1, 2]), (5, 5, [0, 1, 2, 3, 4]), (10, 4, [0, 2, 5, 7])]
)
def test_of_many_samples_some_are_taken_at_even_distances(count: int, limit: int, chosen: list[int]) -> None:
    assert spread(count, limit) == chosen
