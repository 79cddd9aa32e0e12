from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from perdure_api.pod import CheckpointRef
from perdure_api.spec import CheckpointSpec, TrainingSpec
from perdure_api.uri import parse_uri
from perdure_data.errors import Unavailable
from perdure_data.stores import Stores
from perdure_trainer import state
from perdure_trainer.checkpoints.payload import files_of
from perdure_trainer.checkpoints.repository import Repository
from perdure_trainer.checkpoints.writer import CheckpointWriter
from perdure_trainer.data.order import Order
from perdure_trainer.distributed import Alone, Ranks
from perdure_trainer.failures import Diverged, Fenced, PeerLost, Stopped, TemporaryError
from perdure_trainer.last_save import LAST_SAVE_SECONDS
from perdure_trainer.loop import StepReport, Training, Wishes
from perdure_trainer.losses import Losses
from perdure_trainer.state import Position, Randomness, Snapshot
from perdure_trainer.stopping import StopSignal
from perdure_trainer.topology import Topology
from tests.trainer.checkpoints.test_repository import settings
from tests.trainer.toy import Plane, Points, ToyModel


@dataclass
class Shelf:
    """Where snapshots are kept."""

    saved: list[Snapshot] = field(default_factory=list)
    on_save: Callable[[], object] = lambda: None


class MemoryRepository(Repository):
    """Keeps snapshots on a shelf; fails or waits where a test wants it to."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(Stores(), settings(parse_uri("file:///nonexistent"), 1), {})
        object.__setattr__(self, "shelf", shelf)  # the class is frozen

    shelf: Shelf

    def save(self, snapshot: Snapshot) -> CheckpointRef:
        self.shelf.on_save()
        self.shelf.saved.append(snapshot)
        return CheckpointRef(uri=f"memory/{snapshot.position.step}", step=snapshot.position.step)

    def saved_since(self, step: int) -> CheckpointRef | None:
        return None

    def prune(self) -> None:
        pass


class OneOfTwo(Alone):
    """One of two ranks that do the same, of which the other is lost in the midst of a step."""

    def __init__(self, rank: int = 0, lost_in_operation: int | None = None) -> None:
        self.place = Topology(rank, 2)
        self.operations = 0
        self.lost_in_operation = lost_in_operation
        self.on_loss: Callable[[], object] = lambda: None

    def begin_step(self, seed: int, step: int) -> None:
        Randomness.seed(seed, self.place.rank, step)

    def total(self, number: int) -> int:
        self._wait()
        return 2 * number

    def asked_to_stop(self, because: str) -> str:
        self._wait()
        return because

    def add_up(self, parameters: Iterable[nn.Parameter], loss: Tensor) -> Tensor:
        for parameter in parameters:
            self._wait()
            if parameter.grad is not None:
                parameter.grad *= 2
        return 2 * loss

    def _wait(self) -> None:
        self.operations += 1
        if self.operations == self.lost_in_operation:
            self.on_loss()
            raise PeerLost("the other rank is gone")


@dataclass
class Bench:
    """A loop over the toy model with everything around it."""

    spec: TrainingSpec = field(default_factory=lambda: TrainingSpec(max_steps=20, batch_size=4, learning_rate=0.05))
    checkpoint: CheckpointSpec = field(default_factory=lambda: CheckpointSpec(every_steps=5))
    model: ToyModel = field(default_factory=ToyModel)
    samples: Plane = field(default_factory=Plane)
    shelf: Shelf = field(default_factory=Shelf)
    stop: StopSignal = field(default_factory=StopSignal)
    wishes: Wishes = field(default_factory=Wishes)
    reports: list[StepReport] = field(default_factory=list)
    after_step: Callable[[StepReport], None] = lambda _: None
    saves_are_awaited: bool = True
    """Which saves are done by when must not depend on the machine."""
    now: float = 0.0
    writer_kind: type[CheckpointWriter] = CheckpointWriter
    ranks: Ranks = field(default_factory=Alone)

    def run(self, resume_from: Snapshot | None = None) -> Position:
        optimizer = torch.optim.AdamW([parameter for _, parameter in state.trainable(self.model.module)], fused=True)
        position = Position()
        torch.manual_seed(1)
        if resume_from:
            state.put_back(resume_from, self.model.module, optimizer)
            position = resume_from.position
        self.writer = self.writer_kind(MemoryRepository(self.shelf), position.step, clock=lambda: self.now)
        training = Training(
            model=self.model,
            optimizer=optimizer,
            samples=self.samples,
            order=Order(1, 100),
            spec=self.spec,
            checkpoint=self.checkpoint,
            total_steps=self.spec.max_steps or 0,
            writer=self.writer,
            stop=self.stop,
            wishes=self.wishes,
            losses=Losses(resume_from.losses if resume_from else ()),
            on_step=self._on_step,
            clock=self._clock,
            ranks=self.ranks,
        )
        return training.run(position)

    @property
    def saved_steps(self) -> list[int]:
        return [snapshot.position.step for snapshot in self.shelf.saved]

    def _on_step(self, report: StepReport) -> None:
        self.reports.append(report)
        if self.writer._running and self.saves_are_awaited:
            self.writer._running.exception()
        self.after_step(report)

    def _clock(self) -> float:
        self.now += 1.0
        return self.now


def weights(bench: Bench) -> dict[str, list[Any]]:
    return {name: parameter.tolist() for name, parameter in state.trainable(bench.model.module)}


def test_training_lowers_the_loss_and_counts_what_it_did() -> None:
    bench = Bench(spec=TrainingSpec(max_steps=100, batch_size=4, gradient_accumulation_steps=2, learning_rate=0.05))
    position = bench.run()
    assert (position.step, position.samples, position.labels) == (100, 800, 800)
    assert bench.reports[-1].loss < 0.5 * bench.reports[0].loss
    assert [report.position.step for report in bench.reports] == list(range(1, 101))


def test_batches_are_made_before_the_step_that_needs_them() -> None:
    third = Event()

    class Told(Plane):
        made = 0

        def batch(self, indices: Sequence[int]) -> Points:
            self.made += 1
            if self.made == 3:
                third.set()
            return super().batch(indices)

    seen = []
    Bench(samples=Told(), after_step=lambda _: seen.append(third.wait(10) if not seen else True)).run()
    assert seen[0]


def test_a_batch_that_cannot_be_made_ends_training_with_what_was_wrong() -> None:
    class Broken(Plane):
        def batch(self, indices: Sequence[int]) -> Points:
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        Bench(samples=Broken()).run()


def test_saves_every_so_many_steps_and_at_the_end() -> None:
    bench = Bench(spec=TrainingSpec(max_steps=12, batch_size=4))
    bench.run()
    assert bench.saved_steps == [5, 10, 12]


def test_saves_when_time_has_passed() -> None:
    bench = Bench(checkpoint=CheckpointSpec(every_steps=10**6, every_seconds=10))
    bench.run()
    assert len(bench.saved_steps) > 2


def test_saves_on_command() -> None:
    bench = Bench(checkpoint=CheckpointSpec(every_steps=10**6))

    def ask(report: StepReport) -> None:
        bench.wishes.checkpoint |= report.position.step == 7

    bench.after_step = ask
    bench.run()
    assert bench.saved_steps == [7, 20]


@pytest.mark.parametrize("micro_batches", [1, 3])
@pytest.mark.parametrize("at", [0, 2, 4])
def test_a_stop_anywhere_and_a_resume_change_nothing(micro_batches: int, at: int) -> None:
    spec = TrainingSpec(max_steps=6, batch_size=2, gradient_accumulation_steps=micro_batches, learning_rate=0.05)
    undisturbed = Bench(spec=spec)
    undisturbed.run()
    stopped = Bench(spec=spec)
    loss, calls = stopped.model.loss, iter(range(10**6))

    def loss_and_signal(batch: Points) -> torch.Tensor:
        if next(calls) == at:
            stopped.stop.request("stopped by a test")
        return loss(batch)

    stopped.model.loss = loss_and_signal  # type: ignore[method-assign] # a signal in the midst of a step
    with pytest.raises(Stopped, match="stopped by a test"):
        stopped.run()
    resumed = Bench(spec=spec)
    resumed.run(stopped.shelf.saved[-1] if stopped.shelf.saved else None)
    assert weights(resumed) == weights(undisturbed)
    assert resumed.reports[-1].position.train_loss == undisturbed.reports[-1].position.train_loss
    assert resumed.shelf.saved[-1].losses == undisturbed.shelf.saved[-1].losses
    assert [point.step for point in undisturbed.shelf.saved[-1].losses] == [1, 2, 3, 4, 5, 6]


def test_a_stop_saves_the_last_whole_step() -> None:
    bench = Bench(checkpoint=CheckpointSpec(every_steps=10**6))

    def stop(report: StepReport) -> None:
        if report.position.step == 8:
            bench.stop.request("enough")

    bench.after_step = stop
    with pytest.raises(Stopped, match="enough"):
        bench.run()
    assert bench.saved_steps == [8]
    assert bench.writer.newest is not None
    assert bench.writer.newest.step == 8


def test_a_loss_that_is_no_number_ends_the_run_and_saves_nothing_of_it() -> None:
    bench = Bench()
    loss = bench.model.loss

    def diverge(batch: Points) -> torch.Tensor:
        return loss(batch) * (math.nan if len(bench.reports) == 7 else 1)

    bench.model.loss = diverge  # type: ignore[method-assign] # a model that diverges at step 8
    with pytest.raises(
        Diverged, match=r"the loss is nan at step 8; the last good checkpoint is memory/5\. Lower training"
    ):
        bench.run()
    assert bench.saved_steps == [5]


def test_a_gradient_without_end_ends_the_run() -> None:
    bench = Bench(spec=TrainingSpec(max_steps=5, max_grad_norm=0))
    loss = bench.model.loss
    bench.model.loss = lambda batch: (loss(batch) * 0 + 1e30 * loss(batch)) * 1e30  # type: ignore[method-assign]
    with pytest.raises(Diverged, match=r"at step 1; there is no checkpoint yet\. Nothing is learnt by then"):
        bench.run()


def test_weights_that_are_no_numbers_are_never_saved_and_end_the_run() -> None:
    """The last step's update has no later loss that would show it."""
    bench = Bench(spec=TrainingSpec(max_steps=7, batch_size=4))

    def spoil(report: StepReport) -> None:
        if report.position.step == 7:
            dict(state.trainable(bench.model.module))["2.bias"].data.fill_(math.inf)

    bench.after_step = spoil
    with pytest.raises(Diverged, match=r"no numbers after step 7; the last good checkpoint is memory/5\. Lower"):
        bench.run()
    assert bench.saved_steps == [5]


def test_a_save_that_fails_never_stops_training_and_is_soon_tried_again() -> None:
    bench = Bench(checkpoint=CheckpointSpec(every_steps=10))

    def fail() -> None:
        if len(bench.reports) < 12:
            raise Unavailable("the store is away")

    bench.shelf.on_save = fail
    assert bench.run().step == 20
    assert bench.saved_steps[0] in {12, 13, 14}
    assert bench.saved_steps[-1] == 20


@pytest.mark.parametrize(
    ("checkpoint", "commanded_at"),
    [
        pytest.param(CheckpointSpec(every_steps=10**6, every_seconds=30), None, id="time"),
        pytest.param(CheckpointSpec(every_steps=10**6), 7, id="command"),
    ],
)
def test_a_save_that_failed_is_owed_whatever_asked_for_it(checkpoint: CheckpointSpec, commanded_at: int | None) -> None:
    bench = Bench(spec=TrainingSpec(max_steps=100, batch_size=4), checkpoint=checkpoint)
    failed_at: list[int] = []

    def fail_once() -> None:
        if not failed_at:
            failed_at.append(len(bench.reports))
            raise Unavailable("the store is away")

    def ask(report: StepReport) -> None:
        bench.wishes.checkpoint |= report.position.step == commanded_at

    bench.shelf.on_save, bench.after_step = fail_once, ask
    bench.run()
    assert bench.saved_steps[0] - failed_at[0] in {2, 3, 4}, "RETRY_SECONDS are less than two steps of this clock"


def test_after_max_failures_in_a_row_the_attempt_is_given_up() -> None:
    bench = Bench(spec=TrainingSpec(max_steps=1000), checkpoint=CheckpointSpec(every_steps=5, max_failures=3))

    def fail() -> None:
        if len(bench.reports) > 8:
            raise Unavailable("the store is away")

    bench.shelf.on_save = fail
    with pytest.raises(
        TemporaryError,
        match=r"maxFailures allows \(3\).* because the store is away.*the last good checkpoint is memory/5",
    ):
        bench.run()
    assert bench.saved_steps == [5]


def test_a_store_that_stays_away_does_not_keep_the_end_from_coming() -> None:
    bench = Bench()

    def fail() -> None:
        raise Unavailable("the store is away")

    bench.shelf.on_save = fail
    assert bench.run().step == 20
    assert bench.writer.newest is None


def test_a_slow_save_does_not_hold_up_training() -> None:
    bench = Bench(saves_are_awaited=False)
    released = Event()
    bench.shelf.on_save = lambda: released.wait(30)

    def release(report: StepReport) -> None:
        if report.position.step == 19:
            released.set()

    bench.after_step = release
    assert bench.run().step == 20
    assert bench.saved_steps == [5, 20]


def test_the_save_under_way_and_the_last_one_share_one_limit() -> None:
    """The kubelet grants 30 s for both."""
    bench, took = Bench(saves_are_awaited=False), LAST_SAVE_SECONDS - 5
    waited_for = Event()
    waits: list[float] = []

    class Watched(CheckpointWriter):
        def collect(self, timeout_seconds: float | None = 0) -> bool:
            if timeout_seconds:
                waits.append(timeout_seconds)
                waited_for.set()
            return super().collect(timeout_seconds)

    def save_slowly() -> None:
        if not bench.shelf.saved:
            assert waited_for.wait(30)
            bench.now += took

    def stop(report: StepReport) -> None:
        if report.position.step == 8:
            bench.stop.request("enough")

    bench.writer_kind, bench.shelf.on_save, bench.after_step = Watched, save_slowly, stop
    with pytest.raises(Stopped, match="enough"):
        bench.run()
    assert bench.saved_steps == [5, 8]
    first, last = waits
    assert last <= first - took
    assert first <= LAST_SAVE_SECONDS


def test_a_fenced_attempt_ends_at_its_next_save() -> None:
    bench = Bench()

    def fence() -> None:
        raise Fenced("attempt 2 has taken over")

    bench.shelf.on_save = fence
    with pytest.raises(Fenced):
        bench.run()
    assert len(bench.reports) <= 7


SHORT = TrainingSpec(max_steps=4, batch_size=2, gradient_accumulation_steps=2, learning_rate=0.05)
SELDOM = CheckpointSpec(every_steps=10**6)
OPERATIONS_A_STEP = 5
"""Of OneOfTwo: one for the labels, one before each micro-batch, and one for each of two gradients."""


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("operation", range(1, OPERATIONS_A_STEP + 1))
def test_a_rank_lost_anywhere_in_a_step_leaves_the_whole_steps_before_it(operation: int, rank: int) -> None:
    """Also when some gradients are added up and others are not: what is saved goes on as if nothing had been."""
    whole = Bench(spec=SHORT, checkpoint=SELDOM, ranks=OneOfTwo(rank))
    whole.run()
    losing = Bench(spec=SHORT, checkpoint=SELDOM, ranks=OneOfTwo(rank, 2 * OPERATIONS_A_STEP + operation))
    with pytest.raises(PeerLost, match="the other rank is gone; rank 0 saved step 2"):
        losing.run()
    (saved,) = losing.shelf.saved
    assert (saved.position.step, saved.position.samples, len(saved.losses)) == (2, 16, 2)
    resumed = Bench(spec=SHORT, checkpoint=SELDOM, ranks=OneOfTwo(rank))
    resumed.run(saved)
    assert weights(resumed) == weights(whole)


def test_what_is_drawn_next_does_not_depend_on_who_saves_when_a_rank_is_lost_nor_when() -> None:
    """One rank alone would go on with it."""
    saved = []
    for rank, operation in ((0, 1), (0, 4), (1, 2)):
        bench = Bench(spec=SHORT, checkpoint=SELDOM, ranks=OneOfTwo(rank, 2 * OPERATIONS_A_STEP + operation))
        with pytest.raises(PeerLost):
            bench.run()
        saved.append(files_of(bench.shelf.saved[0])["randomness.safetensors"])
    assert len(set(saved)) == 1


def test_a_rank_that_is_lost_before_anything_was_trained_leaves_nothing_to_save() -> None:
    bench = Bench(ranks=OneOfTwo(lost_in_operation=1))
    with pytest.raises(PeerLost, match=r"^the other rank is gone$"):
        bench.run()
    assert not bench.shelf.saved


@pytest.mark.parametrize(
    ("stopped", "kind", "sentence"),
    [
        pytest.param("before", Stopped, "SIGTERM; rank 0 saved step 2", id="told to stop before"),
        pytest.param("after", PeerLost, "the other rank is gone; rank 0 saved step 2", id="told to stop as it saved"),
    ],
)
def test_what_came_first_is_why_it_ends(stopped: str, kind: type[Exception], sentence: str) -> None:
    """The pods of an attempt that has lost one are told to stop, sooner or later."""
    ranks = OneOfTwo(lost_in_operation=2 * OPERATIONS_A_STEP + 3)
    bench = Bench(spec=SHORT, checkpoint=SELDOM, ranks=ranks)

    def stop() -> None:
        bench.stop.request("SIGTERM")

    if stopped == "before":
        ranks.on_loss = stop
    else:
        bench.shelf.on_save = stop
    with pytest.raises(kind, match=f"^{sentence}$"):
        bench.run()
    assert bench.saved_steps == [2]


def test_what_failed_when_a_rank_was_lost_is_said_beside_it() -> None:
    bench = Bench(spec=SHORT, checkpoint=SELDOM, ranks=OneOfTwo(1, 2 * OPERATIONS_A_STEP + 1))

    def fence() -> None:
        raise Fenced("attempt 2 has taken over")

    bench.shelf.on_save = fence
    with pytest.raises(PeerLost, match=r"^the other rank is gone; step 2 is not saved: attempt 2 has taken over$"):
        bench.run()


def test_accumulated_micro_batches_are_one_large_batch() -> None:
    """Up to rounding, and with dropout off: each label weighs the same."""
    results = []
    for size, count in ((8, 1), (2, 4)):
        bench = Bench(spec=TrainingSpec(max_steps=5, batch_size=size, gradient_accumulation_steps=count))
        bench.model.without_dropout()
        bench.run()
        results.append([report.loss for report in bench.reports])
    assert results[0] == pytest.approx(results[1], rel=1e-5)


def test_a_finished_run_has_nothing_left_to_do() -> None:
    bench = Bench()
    bench.run()
    again = Bench()
    position = again.run(bench.shelf.saved[-1])
    assert (position, again.reports, again.saved_steps) == (bench.shelf.saved[-1].position, [], [])
