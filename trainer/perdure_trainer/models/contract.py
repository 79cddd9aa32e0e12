"""What the loop knows of a model: this, and nothing else.

A kind of model is one file with one class that fulfils this contract, named in `models/__init__.py`. The loop, the
checkpoints, the evaluation and the result never look inside.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from perdure_api.spec import LoraSpec, TrainingSpec
from perdure_data.datasets import Record
from perdure_data.model_files import ModelFolder

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class Batch(Protocol):
    """Some samples, as one micro-batch."""

    @property
    def labels(self) -> int:
        """How many predictions its loss is a sum of."""

    def to(self, device: torch.device) -> Self:
        """The same on a device."""


class Samples(Protocol):
    """What can be trained on or evaluated, by number."""

    @property
    def block(self) -> int:
        """How many neighbours are best trained on together; 1 where that makes no difference."""

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int]) -> Batch:
        """The samples of those numbers; the same numbers give the same batch, on every machine.

        It is made in a thread beside the training: it must not draw from a generator that training draws from.
        """


@dataclass(frozen=True)
class Corpus:
    """A dataset, ready to be trained on."""

    training: Samples
    held_out: Samples


@dataclass(frozen=True)
class Measured:
    """How good a model is, in the words of its kind."""

    metrics: dict[str, float]
    """`eval_loss`, and what else people know for this kind of model."""
    counts: dict[str, int]
    """What each of them is a mean over: how many tokens, answers, …"""


@dataclass(frozen=True)
class Usage:
    """How an adapter of a kind is used without Perdure."""

    pipeline_tag: str
    """The Hugging Face Hub's word for what such models do."""
    program: str
    """Python that loads the base model, and the adapter from a folder `adapter`."""


class TrainableModel(ABC):
    """A base model with an adapter on it."""

    module: nn.Module
    """Only the adapter's parameters require gradients."""
    device: torch.device
    fingerprints: dict[str, str]
    """`sha256:…` of what the model brings along: `model`, `tokenizer`, …"""
    usage: Usage

    @classmethod
    @abstractmethod
    def load(cls, folder: ModelFolder, lora: LoraSpec, training: TrainingSpec) -> Self:
        """The model of a folder with a fresh adapter, initialised from training.seed.

        Raises:
            ConfigError: the spec does not fit this model.
        """

    @abstractmethod
    def prepare(self, records: Iterable[Record], folder: Path) -> None:
        """Writes what `corpus` needs of a dataset into a folder, whatever is there, while reading it.

        The files depend on nothing but the records, the fingerprints and the spec: later attempts may get copies.
        """

    @abstractmethod
    def corpus(self, training: Path, held_out: Path | float) -> Corpus:
        """The samples of datasets that were prepared; with a number, that share of the first is held out.

        Raises:
            DataError: too little to train on, or to hold out.
        """

    @abstractmethod
    def loss(self, batch: Any) -> Tensor:
        """The loss of a batch (of `corpus`), summed over its labels, as a float32 scalar."""

    @abstractmethod
    def without_adapter(self) -> AbstractContextManager[None]:
        """Inside, the model is the base model again."""

    @abstractmethod
    def measure(self, batch: Any) -> Mapping[str, float]:
        """Sums over a held-out batch, from which `measured` makes metrics; called without gradients or dropout."""

    def examine(self, samples: Any, pause: Callable[[], None]) -> Mapping[str, float]:  # noqa: ARG002 - for most kinds
        """More numbers for `measured`: what shows only when the model does its work on held-out samples of `corpus`.

        None, unless a kind of model overrides this. Called as `measure` is. `pause` is to be called between pieces of
        work; it may raise.
        """
        return {}

    @abstractmethod
    def measured(self, sums: Mapping[str, float]) -> Measured:
        """What the sums over all held-out batches amount to."""

    @abstractmethod
    def save_adapter(self, folder: Path, base_uri: str) -> None:
        """Writes the adapter in peft's own layout, so that it loads without Perdure."""
