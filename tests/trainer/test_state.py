from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch

from perdure_trainer import state
from perdure_trainer.checkpoints.payload import files_of, snapshot_of
from perdure_trainer.failures import TrainerError
from perdure_trainer.state import Position, Randomness, Snapshot
from tests.trainer.toy import Plane, ToyModel


def optimizer_of(model: ToyModel) -> torch.optim.AdamW:
    return torch.optim.AdamW([parameter for _, parameter in state.trainable(model.module)], lr=0.1)


def train(model: ToyModel, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for step in range(steps):
        model.loss(Plane().batch([step, step + 1])).backward()  # type: ignore[no-untyped-call] # torch's
        optimizer.step()
        optimizer.zero_grad()


def weights(model: ToyModel) -> list[float]:
    return [value for _, parameter in state.trainable(model.module) for value in parameter.flatten().tolist()]


def taken(steps: int = 3) -> tuple[ToyModel, torch.optim.Optimizer, Snapshot]:
    model = ToyModel()
    optimizer = optimizer_of(model)
    train(model, optimizer, steps)
    return model, optimizer, state.take(model.module, optimizer, Position(step=steps))


def test_a_state_put_back_goes_on_to_the_bit() -> None:
    model, optimizer, snapshot = taken()
    train(model, optimizer, 5)
    other = ToyModel()
    other_optimizer = optimizer_of(other)
    torch.manual_seed(99)
    state.put_back(snapshot_of(files_of(snapshot)), other.module, other_optimizer)
    train(other, other_optimizer, 5)
    assert weights(other) == weights(model)


def test_a_snapshot_does_not_change_when_training_goes_on() -> None:
    model, optimizer, snapshot = taken()
    before = files_of(snapshot)
    train(model, optimizer, 5)
    assert files_of(snapshot) == before


def test_only_what_is_trained_is_in_a_snapshot() -> None:
    _, _, snapshot = taken()
    assert snapshot.adapter.keys() == {"2.weight", "2.bias"}
    assert snapshot.optimizer.keys() == {
        f"{name}|{what}" for name in snapshot.adapter for what in ("step", "exp_avg", "exp_avg_sq")
    }


def test_a_checkpoint_of_a_trainer_that_kept_no_losses_is_read() -> None:
    _, _, snapshot = taken()
    files = files_of(snapshot)
    kept = json.loads(files["state.json"])
    del kept["losses"]
    assert snapshot_of({**files, "state.json": json.dumps(kept).encode()}).losses == ()


class Deaf(torch.nn.Parameter):
    """Takes nothing in, without a word, as wrapping libraries have been seen to do."""

    def copy_(self, *_: object, **__: object) -> Deaf:  # type: ignore[override] # whatever it is given
        return self


def test_a_tensor_that_did_not_arrive_in_the_model_ends_the_run() -> None:
    _, _, snapshot = taken()
    other = ToyModel()
    last = other.module.get_submodule("2")
    last.register_parameter("bias", Deaf(last.get_parameter("bias").detach()))
    with pytest.raises(TrainerError, match=r"tensor 2\.bias in the model is not the checkpoint's after loading it"):
        state.put_back(snapshot, other.module, optimizer_of(other))


def test_a_snapshot_of_another_adapter_is_refused() -> None:
    model, optimizer, snapshot = taken()
    model.frozen.weight.requires_grad = True
    with pytest.raises(TrainerError, match=r"1 tensors differ, such as 1\.weight"):
        state.put_back(snapshot, model.module, optimizer)


def draws() -> tuple[float, float, float]:
    return torch.rand(()).item(), random.random(), float(np.random.random())  # noqa: NPY002 - the global one


def test_every_random_generator_goes_on_where_it_was() -> None:
    now = Randomness.now()
    first = draws()
    draws()
    now.restore()
    assert draws() == first
