"""The smallest model that the loop can train: it shows that the loop needs nothing but the contract."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from perdure_api.spec import LoraSpec, TrainingSpec
from perdure_data.datasets import Record
from perdure_data.model_files import ModelFolder
from perdure_trainer.models.contract import Corpus, Measured, TrainableModel, Usage


@dataclass(frozen=True)
class Points:
    """Points of a plane, and the height over each."""

    inputs: Tensor
    targets: Tensor

    @property
    def labels(self) -> int:
        return len(self.targets)

    def to(self, device: torch.device) -> Points:
        return Points(self.inputs.to(device), self.targets.to(device))


class Plane:
    """A hundred points of it."""

    block = 1

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(3)
        self.inputs = torch.randn(100, 2, generator=generator)
        self.targets = self.inputs @ torch.tensor([1.0, -2.0])

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, indices: Sequence[int]) -> Points:
        chosen = list(indices)
        return Points(self.inputs[chosen], self.targets[chosen])


class ToyModel(TrainableModel):
    """Linear regression with dropout, so that randomness matters."""

    def __init__(self) -> None:
        torch.manual_seed(5)
        self._dropout, self.frozen = nn.Dropout(0.3), nn.Linear(2, 4)
        self.frozen.requires_grad_(requires_grad=False)
        self.module = nn.Sequential(self._dropout, self.frozen, nn.Linear(4, 1))
        self.device = torch.device("cpu")
        self.fingerprints = {"model": "sha256:toy"}
        self.usage = Usage("tabular-regression", "")

    @classmethod
    def load(cls, folder: ModelFolder, lora: LoraSpec, training: TrainingSpec) -> Self:
        raise NotImplementedError

    def prepare(self, records: Iterable[Record], folder: Path) -> None:
        raise NotImplementedError

    def corpus(self, training: Path, held_out: Path | float) -> Corpus:
        raise NotImplementedError

    def without_dropout(self) -> None:
        self._dropout.p = 0.0

    def loss(self, batch: Points) -> Tensor:
        predicted: Tensor = self.module(batch.inputs).squeeze(1)
        return nn.functional.mse_loss(predicted, batch.targets, reduction="sum")

    def without_adapter(self) -> AbstractContextManager[None]:
        return nullcontext()

    def measure(self, batch: Points) -> Mapping[str, float]:
        return {"loss": self.loss(batch).item(), "points": batch.labels}

    def measured(self, sums: Mapping[str, float]) -> Measured:
        return Measured({"eval_loss": sums["loss"] / sums["points"]}, {"points": int(sums["points"])})

    def save_adapter(self, folder: Path, base_uri: str) -> None:
        raise NotImplementedError
