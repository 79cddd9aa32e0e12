"""The training loop: gradients, steps, saves, and ends."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog
import torch

from perdure_trainer import state
from perdure_trainer.checkpoints.writer import ADVICE
from perdure_trainer.data.ahead import ahead
from perdure_trainer.distributed import Alone
from perdure_trainer.failures import Diverged, PeerLost, Stopped, TemporaryError
from perdure_trainer.last_save import LAST_SAVE_SECONDS, LastSave
from perdure_trainer.schedule import learning_rate, samples_per_step
from perdure_trainer.state import Position, Randomness

if TYPE_CHECKING:
    from torch import Tensor

    from perdure_api.spec import CheckpointSpec, TrainingSpec
    from perdure_trainer.checkpoints.writer import CheckpointWriter
    from perdure_trainer.data.order import Order
    from perdure_trainer.distributed import Ranks
    from perdure_trainer.losses import Losses
    from perdure_trainer.models.contract import Batch, Samples, TrainableModel
    from perdure_trainer.state import Snapshot
    from perdure_trainer.stopping import StopSignal

_log = structlog.get_logger()

_STEPS_AHEAD: Final = 2
"""Steps whose batches are made while others are computed."""
_LOSS_MEMORY: Final = 0.9
"""Weight of the past in the moving average of the loss."""


@dataclass(frozen=True)
class StepReport:
    """What one optimizer step was like."""

    position: Position
    total_steps: int
    loss: float
    """Mean over the labels of the step."""
    learning_rate: float
    gradient_norm: float
    labels_per_second: float


@dataclass
class Wishes:
    """What others ask of the loop; set from any thread, looked at after each step."""

    checkpoint: bool = False


@dataclass(frozen=True)
class Training:
    """Everything that a run of the loop needs."""

    model: TrainableModel
    optimizer: torch.optim.Optimizer
    samples: Samples
    order: Order
    spec: TrainingSpec
    checkpoint: CheckpointSpec
    total_steps: int
    writer: CheckpointWriter
    stop: StopSignal
    wishes: Wishes
    losses: Losses
    on_step: Callable[[StepReport], None]
    clock: Callable[[], float] = time.monotonic
    ranks: Ranks = Alone()  # noqa: RUF009 - it holds nothing

    def run(self, position: Position) -> Position:
        """Trains from a position to the last step, which is saved too; the end position.

        Raises:
            Stopped: the end was asked for; the last whole step is saved.
            Diverged: the loss is no longer a number; nothing of that step is saved.
            Fenced: a newer attempt has begun.
            TemporaryError: checkpoint.maxFailures saves have failed in a row.
            PeerLost: another rank is gone or hangs; the last whole step is saved, by this rank or another.
        """
        self.model.module.train()
        with closing(ahead(self._steps(position), _STEPS_AHEAD)) as steps:
            position = self._follow(steps, position)
        self._save_last(position, timeout_seconds=None)
        return position

    def _steps(self, position: Position) -> Iterator[list[Batch]]:
        """This rank's micro-batches of each step that is left."""
        spec, place = self.spec, self.ranks.place
        size, count, samples = spec.batch_size, spec.gradient_accumulation_steps, samples_per_step(spec, place.world)
        for step in range(self.total_steps - position.step):
            start = position.samples + step * samples
            chosen = self.order.micro_batches(start, size, count, place.rank, place.world)
            yield [self.samples.batch(indices) for indices in chosen]

    def _follow(self, steps: Iterator[list[Batch]], position: Position) -> Position:
        saved_at = begun = self.clock()
        for batches in steps:
            try:
                report = self._step(batches, position, begun)
            except PeerLost as lost:
                kind, sentence = (Stopped, self.stop.because) if self.stop.requested else (PeerLost, str(lost))
                raise kind(self._outlive(position, sentence)) from lost
            if report is None:
                self._save_last(position, LAST_SAVE_SECONDS)
                raise Stopped(self.stop.because)
            position = report.position
            self.losses.add(position.step, report.loss)
            self.on_step(report)
            self.writer.collect()
            self._refuse_if_nothing_can_be_saved()
            if self._save_is_due(position.step, self.clock() - saved_at):
                self.wishes.checkpoint = False  # before the snapshot: a wish of this moment is for the next one
                self._submit(position)
                saved_at = self.clock()
            begun = self.clock()
        return position

    def _step(self, batches: Sequence[Batch], position: Position, begun: float) -> StepReport | None:
        """One optimizer step; None, with everything as it was, when the end was asked for in its midst."""
        labels = self.ranks.total(sum(batch.labels for batch in batches))
        self.ranks.begin_step(self.spec.seed, position.step)
        randomness = Randomness.now()
        total = torch.zeros((), device=self.model.device)
        for batch in batches:
            if self._stop_is_requested():
                self.optimizer.zero_grad(set_to_none=True)
                randomness.restore()
                return None
            loss = self.model.loss(batch.to(self.model.device)) / labels
            loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
            total += loss.detach()
        parameters = [parameter for _, parameter in state.trainable(self.model.module)]
        loss_of_all = self.ranks.add_up(parameters, total)
        # One transfer for both: each makes the host wait for the device.
        mean_loss, norm = torch.stack([loss_of_all, self._clipped_norm(parameters)]).tolist()
        self._refuse_if_diverged(position.step + 1, mean_loss, norm)
        rate = learning_rate(self.spec, position.step, self.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        seconds = self.clock() - begun
        return StepReport(
            position=_after(position, samples_per_step(self.spec, self.ranks.place.world), labels, mean_loss, seconds),
            total_steps=self.total_steps,
            loss=mean_loss,
            learning_rate=rate,
            gradient_norm=norm,
            labels_per_second=labels / max(seconds, 1e-9),
        )

    def _stop_is_requested(self) -> bool:
        """Whether any rank was asked to end: all of them learn it at the same place."""
        because = self.ranks.asked_to_stop(self.stop.because)
        if because:
            self.stop.request(because)
        return bool(because)

    def _clipped_norm(self, parameters: list[torch.nn.Parameter]) -> Tensor:
        """The norm of all gradients, which are scaled down to maxGradNorm where it is larger."""
        limit = self.spec.max_grad_norm or math.inf
        return torch.nn.utils.clip_grad_norm_(parameters, limit)

    def _refuse_if_diverged(self, step: int, loss: float, norm: float) -> None:
        if math.isfinite(loss) and math.isfinite(norm):
            return
        self.writer.collect(timeout_seconds=LAST_SAVE_SECONDS)
        what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradients' norm is {norm}"
        advice = ADVICE if step > 1 else "Nothing is learnt by then: look at the base model and training.precision"
        raise Diverged(f"{what} at step {step}; {self.writer.last_good}. {advice}")

    def _refuse_if_nothing_can_be_saved(self) -> None:
        if self.writer.failures >= self.checkpoint.max_failures:
            raise TemporaryError(
                f"as many saves in a row failed as checkpoint.maxFailures allows ({self.writer.failures}), the last "
                f"because {self.writer.last_failure}. What is not saved would be lost; {self.writer.last_good}"
            )

    def _save_is_due(self, step: int, seconds: float) -> bool:
        """Whether to save now; whatever a save was asked for by, one that failed is owed until another is committed."""
        every_steps, every_seconds = self.checkpoint.every_steps, self.checkpoint.every_seconds
        due = step - self.writer.step >= every_steps or (every_seconds is not None and seconds >= every_seconds)
        return (due or self.wishes.checkpoint or self.writer.failures > 0) and self.writer.ready

    def _submit(self, position: Position) -> None:
        if self.ranks.place.leads:
            self.writer.submit(self._snapshot(position))

    def _save_last(self, position: Position, timeout_seconds: float | None) -> None:
        if self.ranks.place.leads:
            self._last_save(position).save(timeout_seconds)

    def _outlive(self, position: Position, sentence: str) -> str:
        """Sees to it that the last whole step is saved when a rank is lost; the sentence with what became of that.

        The step that is under way has changed nothing yet but gradients and generators: a peer is lost only where it is
        waited for, and the optimizer waits for nobody. A rank for which the last sum of a step was whole when another
        was lost has done that step, and saves it; those that lack the sum save the one before.
        """
        # As at the beginning of the step, and on any rank: whoever saves writes the same.
        Randomness.seed(self.spec.seed, 0, position.step)
        told = self._last_save(position).save_as_survivor(self.ranks.before_us())
        return f"{sentence}; {told}" if told and told not in sentence else sentence

    def _last_save(self, position: Position) -> LastSave:
        return LastSave(self.writer, position.step, lambda: self._snapshot(position), self.clock)

    def _snapshot(self, position: Position) -> Snapshot:
        return state.take(self.model.module, self.optimizer, position, self.losses.points)


def _after(position: Position, samples: int, labels: int, loss: float, seconds: float) -> Position:
    past = loss if position.train_loss is None else position.train_loss
    return Position(
        step=position.step + 1,
        samples=position.samples + samples,
        labels=position.labels + labels,
        train_loss=_LOSS_MEMORY * past + (1 - _LOSS_MEMORY) * loss,
        seconds=position.seconds + seconds,
    )
