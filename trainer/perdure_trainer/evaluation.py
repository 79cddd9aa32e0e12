"""How good a model is on what it was never trained on."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from perdure_trainer.models.contract import Samples, TrainableModel
    from perdure_trainer.stopping import StopSignal

SAMPLES_LIMIT: Final = 256
"""More samples tell little new about a mean, and on a CPU cost more than the training."""


@dataclass(frozen=True)
class Evaluation:
    """A measurement."""

    metrics: dict[str, float]
    counts: dict[str, int]
    """What the metrics are means over, by the model's own names."""
    samples: int


def evaluate(model: TrainableModel, samples: Samples, batch_size: int, stop: StopSignal) -> Evaluation:
    """What the model's own measures say over held-out samples.

    Of more than SAMPLES_LIMIT samples, that many are taken at even distances: always the same ones.

    Raises:
        Stopped: the end was asked for.
    """
    chosen = spread(len(samples), SAMPLES_LIMIT)
    was_training = model.module.training
    model.module.eval()
    sums: defaultdict[str, float] = defaultdict(float)
    try:
        with torch.no_grad():
            for start in range(0, len(chosen), batch_size):
                stop.raise_if_requested()
                batch = samples.batch(chosen[start : start + batch_size])
                for name, value in model.measure(batch.to(model.device)).items():
                    sums[name] += value
            sums.update(model.examine(samples, stop.raise_if_requested))
    finally:
        model.module.train(was_training)
    measured = model.measured(sums)
    return Evaluation(measured.metrics, measured.counts, len(chosen))


def spread(count: int, limit: int) -> list[int]:
    """At most `limit` of the numbers below `count`, at even distances."""
    if count <= limit:
        return list(range(count))
    return [place * count // limit for place in range(limit)]
