from __future__ import annotations

import random

import numpy as np
import torch

from perdure_trainer.distributed import Alone, Ranks, Several
from perdure_trainer.roll_call import RollCall
from perdure_trainer.stopping import StopSignal
from perdure_trainer.topology import Topology


def rank(number: int) -> Several:
    place = Topology(number, 2)
    return Several(place, RollCall(place, "a test"), StopSignal())


def draws(ranks: Ranks, step: int) -> tuple[float, float, float]:
    ranks.begin_step(7, step)
    return torch.rand(()).item(), random.random(), float(np.random.random())  # noqa: NPY002 - the global one


def test_every_rank_draws_other_numbers_in_every_step_and_the_same_ones_again() -> None:
    places = [(number, step) for number in (0, 1) for step in (0, 1, 2)]
    drawn = [draws(rank(number), step) for number, step in places]

    assert len({each for numbers in drawn for each in numbers}) == 3 * len(places)
    assert [draws(rank(number), step) for number, step in places] == drawn


def test_one_alone_draws_on_where_it_was() -> None:
    torch.manual_seed(1)
    expected = torch.rand(2).tolist()
    torch.manual_seed(1)

    assert [draws(Alone(), step)[0] for step in (0, 1)] == expected
