"""How many steps, and how fast they learn: pure functions of the spec and the step, so that a resume is exact."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, assert_never

from perdure_api.spec import Scheduler, TrainingSpec

if TYPE_CHECKING:
    from perdure_trainer.state import Position


def total_steps(training: TrainingSpec, sequences: int, ranks: int = 1, done: Position | None = None) -> int:
    """Optimizer steps of the whole run over a training set of so many sequences.

    Args:
        training: How long to train.
        sequences: Size of the training set.
        ranks: How many processes take part in each step from now on.
        done: How far it is already, perhaps with another number of ranks.
    """
    if training.max_steps is not None:
        return training.max_steps
    step, samples = (done.step, done.samples) if done else (0, 0)
    rest = (training.epochs or 0) * sequences - samples
    return max(1, step + math.ceil(max(0, rest) / samples_per_step(training, ranks)))


def samples_per_step(training: TrainingSpec, ranks: int) -> int:
    """How many samples all ranks together train on in one optimizer step."""
    return training.batch_size * training.gradient_accumulation_steps * ranks


def learning_rate(training: TrainingSpec, step: int, total: int) -> float:
    """The learning rate of step `step` (from 0) of `total`.

    It rises in equal parts over warmupSteps, the last of which has the peak, and then falls towards 0 behind the
    last step (Loshchilov & Hutter 2017 for the cosine).
    """
    peak, warmup = training.learning_rate, training.warmup_steps
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, total - warmup)
    match training.scheduler:
        case Scheduler.CONSTANT:
            return peak
        case Scheduler.LINEAR:
            return peak * max(0.0, 1 - done)
        case Scheduler.COSINE:
            return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    assert_never(training.scheduler)
