"""Everything that decides how training goes on: taken down in an instant, and put back to the bit."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from perdure_api.model import TolerantModel
from perdure_trainer.failures import TrainerError
from perdure_trainer.losses import Point

if TYPE_CHECKING:
    from torch import Tensor, nn

_SEPARATOR: Final = "|"
"""Between a parameter's name and a field of its optimizer state; no module name holds it."""


class Position(TolerantModel):
    """How far training is."""

    step: int = 0
    """Optimizer steps done."""
    samples: int = 0
    """Samples trained on: the position in the order."""
    labels: int = 0
    """Tokens (or what the model counts) that were learnt from."""
    train_loss: float | None = None
    """Moving average of the loss."""
    seconds: float = 0.0
    """Time spent on training, in all attempts that led here."""


@dataclass(frozen=True)
class Snapshot:
    """A copy of the whole state: nothing in it changes when training goes on."""

    position: Position
    adapter: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    """`<parameter>|<field>`."""
    randomness: dict[str, Tensor]
    generators: dict[str, Any] = field(default_factory=dict)
    """Python's and NumPy's generators, as JSON."""
    losses: tuple[Point, ...] = ()
    """For people: how training went until then."""

    @property
    def finite(self) -> bool:
        """Whether every weight of the adapter is a number."""
        return all(bool(weight.isfinite().all()) for weight in self.adapter.values())


@dataclass(frozen=True)
class Randomness:
    """The state of every random generator of this process."""

    tensors: dict[str, Tensor]
    generators: dict[str, Any]

    @classmethod
    def now(cls) -> Randomness:
        """The state at this moment."""
        tensors = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            tensors |= {f"cuda:{index}": state for index, state in enumerate(torch.cuda.get_rng_state_all())}
        version, internal, gauss = random.getstate()
        kind, keys, place, has_gauss, cached = np.random.get_state()  # noqa: NPY002 - a library may draw from it
        return cls(
            tensors,
            {
                "python": [version, list(internal), gauss],
                "numpy": [kind, np.asarray(keys).tolist(), place, has_gauss, cached],
            },
        )

    @staticmethod
    def seed(*key: int) -> None:
        """Makes every generator's state a pure function of some numbers."""
        own, *words = (int(word) for word in np.random.SeedSequence(key).generate_state(4, np.uint64))
        torch.manual_seed(own)
        random.seed(words[0])
        np.random.seed([word % 2**32 for word in words])  # noqa: NPY002 - see above

    def restore(self) -> None:
        """Puts every generator back; those of GPUs that are not here are left out."""
        torch.set_rng_state(self.tensors["cpu"])
        for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
            if (state := self.tensors.get(f"cuda:{index}")) is not None:
                torch.cuda.set_rng_state(state, index)
        version, internal, gauss = self.generators["python"]
        random.setstate((version, tuple(internal), gauss))
        np.random.set_state(tuple(self.generators["numpy"]))  # noqa: NPY002 - see above


def trainable(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The adapter's parameters by name, in a fixed order."""
    return ((name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad)


def take(
    module: nn.Module, optimizer: torch.optim.Optimizer, position: Position, losses: tuple[Point, ...] = ()
) -> Snapshot:
    """A copy of the state in main memory. Runs on the training thread, so that it is of one moment."""
    randomness = Randomness.now()
    names: dict[Tensor, str] = {parameter: name for name, parameter in trainable(module)}
    return Snapshot(
        position=position,
        adapter={name: _copy(parameter) for parameter, name in names.items()},
        optimizer={
            f"{names[parameter]}{_SEPARATOR}{key}": _copy(value)
            for parameter, state in optimizer.state.items()
            for key, value in state.items()
        },
        randomness=randomness.tensors,
        generators=randomness.generators,
        losses=losses,
    )


def put_back(snapshot: Snapshot, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Makes module, optimizer and generators what they were, and compares.

    Raises:
        TrainerError: the snapshot is of another adapter, or did not arrive in the model.
    """
    parameters = dict(trainable(module))
    if parameters.keys() != snapshot.adapter.keys():
        odd = sorted(parameters.keys() ^ snapshot.adapter.keys())
        raise TrainerError(f"the checkpoint is of another adapter: {len(odd)} tensors differ, such as {odd[0]}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(snapshot.adapter[name])
    optimizer.load_state_dict({**optimizer.state_dict(), "state": _optimizer_state(snapshot, optimizer, parameters)})
    Randomness(snapshot.randomness, snapshot.generators).restore()
    # Wrapping libraries have been seen to drop a loaded adapter without a word (lerobot#3459, peft#1313).
    for name, parameter in trainable(module):
        if not torch.equal(_copy(parameter), snapshot.adapter[name].to(parameter.dtype)):
            raise TrainerError(f"tensor {name} in the model is not the checkpoint's after loading it")


def _optimizer_state(
    snapshot: Snapshot, optimizer: torch.optim.Optimizer, parameters: dict[str, nn.Parameter]
) -> dict[int, dict[str, Tensor]]:
    in_optimizer = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = {id(parameter): number for number, parameter in enumerate(in_optimizer)}
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in snapshot.optimizer.items():
        name, _, what = key.partition(_SEPARATOR)
        state.setdefault(numbers[id(parameters[name])], {})[what] = value
    return state


def _copy(tensor: Tensor) -> Tensor:
    # A clone even on the CPU: .cpu() alone would hand out the live tensor (pytorch#144657).
    return tensor.detach().to("cpu", copy=True).contiguous()
