"""The built-in trainer as a process of its own that is started, killed and started again.

    python ours.py MODEL FOLDER ATTEMPT WORK

It writes a line of JSON for whatever it has done, with seconds of the machine's clock. Each step is followed by a
checkpoint; after STEPS of them it measures a few more while nothing else happens, and waits to be killed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from recipe import ALPHA, LENGTH, RANK, RATE, SEED

if TYPE_CHECKING:
    from perdure_trainer.run import Run

STEPS = 4
QUIET_SAVES = 5

T = TypeVar("T", bound="Run")


def spec_of(folder: Path, model: Path, every_steps: int = 10**6, **training: Any) -> dict[str, Any]:
    """The spec of a TrainingJob."""
    recipe = {"sequenceLength": LENGTH, "learningRate": RATE, "scheduler": "constant", "seed": SEED}
    return {
        "model": {"uri": f"file://{model}"},
        "dataset": {"uri": f"file://{folder / 'train.jsonl'}", "evalUri": f"file://{folder / 'held-out.jsonl'}"},
        "lora": {"rank": RANK, "alpha": ALPHA},
        "training": recipe | training,
        "checkpoint": {"everySteps": every_steps},
    }


def run_of(kind: type[T], spec: dict[str, Any], work: Path, attempt: int) -> T:
    """An attempt that writes below a folder."""
    from dataclasses import replace  # noqa: PLC0415 - after the clock is read

    from perdure_data.stores import Stores  # noqa: PLC0415
    from perdure_trainer.patience import Patience  # noqa: PLC0415
    from perdure_trainer.settings import from_file  # noqa: PLC0415
    from perdure_trainer.stopping import StopSignal  # noqa: PLC0415

    (work / "job.json").write_text(json.dumps({"metadata": {"name": "bench"}, "spec": spec}))
    scratch = work / f"scratch-{attempt}"
    scratch.mkdir()
    settings = from_file(work / "job.json", work / "out", {"PERDURE_SCRATCH": str(scratch)})
    return kind(replace(settings, attempt=attempt), Stores(), StopSignal(), Patience())


def main() -> None:
    """One attempt, until it is killed."""
    model, folder, attempt = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def tell(what: str, **more: float) -> None:
        out.write(json.dumps({"what": what, "at": time.monotonic(), **more}) + "\n")
        out.flush()

    from perdure_trainer import loop, state  # noqa: PLC0415
    from perdure_trainer.checkpoints.repository import Repository  # noqa: PLC0415
    from perdure_trainer.checkpoints.writer import CheckpointWriter  # noqa: PLC0415
    from perdure_trainer.loop import StepReport  # noqa: PLC0415
    from perdure_trainer.models import causal_lm as _  # noqa: F401, PLC0415 - imported with the rest
    from perdure_trainer.run import Run  # noqa: PLC0415

    tell("imported")
    begun = 0.0
    take, submit = state.take, CheckpointWriter.submit

    def timed_take(*arguments: Any) -> state.Snapshot:
        nonlocal begun
        begun = time.perf_counter()
        return take(*arguments)

    def timed_submit(self: CheckpointWriter, snapshot: state.Snapshot) -> None:
        submit(self, snapshot)
        tell("handed_over", seconds=time.perf_counter() - begun)

    state.take = timed_take
    CheckpointWriter.submit = timed_submit  # type: ignore[method-assign]

    class Watched(Run):
        """Tells of what it does."""

        model: Any = None
        optimizer: Any = None

        def _resume(self, repository: Repository, model: Any, optimizer: Any) -> state.Position:
            position = super()._resume(repository, model, optimizer)
            self.repository, self.model, self.optimizer = repository, model, optimizer
            tell("ready", step=position.step)
            return position

        def _on_step(self, report: StepReport) -> None:
            super()._on_step(report)
            tell("step", step=report.position.step)
            if report.position.step % STEPS == 0:
                assert self._writer
                self._writer.collect(timeout_seconds=None)
                for _ in range(QUIET_SAVES):
                    self._save_in_peace(report.position)
                tell("done")
                time.sleep(3600)

        def _save_in_peace(self, position: state.Position) -> None:
            cpu = time.process_time()
            self.repository.save(take(self.model.module, self.optimizer, position))
            tell("saved_in_peace", cpu_seconds=time.process_time() - cpu)

    assert loop.state is state
    run_of(
        Watched, spec_of(folder, model, every_steps=1, maxSteps=10**6, batchSize=1), Path(sys.argv[4]), attempt
    ).finish()


if __name__ == "__main__":
    main()
