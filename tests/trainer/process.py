"""The trainer as a process of its own that can really be killed.

Processes are forked from a server that has imported torch once: a fresh interpreter would take seconds each time.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from threading import Event

import torch

from perdure_api.pod import TerminationMessage
from perdure_api.spec import TrainingSpec
from perdure_api.uri import StoreUri
from perdure_trainer import loop, schedule
from perdure_trainer import main as trainer_main
from perdure_trainer.checkpoints.manifest import Manifest
from perdure_trainer.checkpoints.repository import Repository
from perdure_trainer.checkpoints.writer import CheckpointWriter
from perdure_trainer.data.cache import Keeper
from perdure_trainer.data.order import Order
from perdure_trainer.main import main
from perdure_trainer.patience import Patience
from perdure_trainer.state import Snapshot
from perdure_trainer.stopping import StopSignal
from tests.trainer.surroundings import Surroundings

PRELOADED = ["tests.trainer.process", "perdure_trainer.run", "perdure_trainer.models.causal_lm"]
END_SECONDS = 300
_ENDLESS = 1e45
"""A learning rate beyond float32."""


NOWHERE_SPECIAL = Surroundings()


@dataclass(frozen=True)
class Fault:
    """Where a process kills itself with SIGKILL, as a power cut would. Saves before that place are done."""

    at_step: int | None = None
    """While it computes this step (from 0)."""
    in_save_of_step: int | None = None
    """Between the payload of this checkpoint and its manifest."""
    raising_at_step: tuple[int, str] | None = None
    """Not killed, but at this step (from 0) torch says that its GPU has no memory left, in these words."""
    patience_seconds: float | None = None
    """Not killed, but it waits no longer than that for a store."""
    endless_at_step: int | None = None
    """Not killed, but the update of this step (from 0) is larger than any number."""
    missing_package: str | None = None
    """Not killed, but this cannot be imported."""
    frozen_at_step: int | None = None
    """Here it does not die, but stands still, as on a machine that no longer answers."""
    hung_at_step: int | None = None
    """Here only the training thread stands still."""


@dataclass(frozen=True)
class Ended:
    """A process that is over."""

    exit_code: int | None
    """Negative: the signal that ended it."""
    last_words: TerminationMessage
    log: str
    seconds: float


class TrainerProcess:
    """One attempt that runs."""

    def __init__(self, process: ForkServerProcess, folder: Path) -> None:
        self._process = process
        self._folder = folder
        self._begun = time.monotonic()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Waits until something is so; the process must not end before."""
        deadline = time.monotonic() + END_SECONDS
        while not condition():
            assert self._process.is_alive(), f"ended too early:\n{self._log()}"
            assert time.monotonic() < deadline, f"did not happen within {END_SECONDS} s:\n{self._log()}"
            time.sleep(0.01)

    def terminate(self) -> Ended:
        """Sends SIGTERM, as the kubelet does, and waits."""
        self._begun = time.monotonic()
        self._process.terminate()
        return self.end()

    def terminate_once_it_listens(self) -> Ended:
        """Sends SIGTERM as soon as the process would not simply die of it."""
        self.wait_for((self._folder / "listens").exists)
        return self.terminate()

    def wait_until_alive(self) -> None:
        """Waits until it runs; the first one takes seconds longer to come to life."""
        self.wait_for((self._folder / "log").exists)

    def kill_after(self, seconds: float) -> bool:
        """SIGKILL this long after it came to life; False when the process had ended by itself before."""
        self.wait_until_alive()
        self._process.join(seconds)
        if not self._process.is_alive():
            return False
        self._process.kill()
        self._process.join(END_SECONDS)
        return self._process.exitcode == -signal.SIGKILL

    def kill(self) -> None:
        """SIGKILL, whatever it is doing."""
        self._process.kill()
        self._process.join(END_SECONDS)

    def thaw(self) -> None:
        """SIGCONT: one that stood still goes on."""
        os.kill(self._process.pid or 0, signal.SIGCONT)

    def wait_until_it_stands_still(self) -> None:
        """Waits until it is dead or frozen, or hangs."""
        self.wait_for(lambda: (self._folder / "stands-still").exists() or not self._process.is_alive())

    def trained_on(self, from_step: int, to_step: int) -> list[int]:
        """The numbers of the samples of these steps, of one micro-batch each."""
        lines = (self._folder / "samples").read_text().splitlines()
        return [number for line in lines[: to_step - from_step] for number in json.loads(line)]

    def end(self) -> Ended:
        """Waits for the end."""
        self._process.join(END_SECONDS)
        assert not self._process.is_alive(), f"did not end within {END_SECONDS} s:\n{self._log()}"
        words = self._folder / "termination-log"
        return Ended(
            exit_code=self._process.exitcode,
            last_words=TerminationMessage.decode(words.read_text() if words.exists() else ""),
            log=self._log(),
            seconds=time.monotonic() - self._begun,
        )

    def _log(self) -> str:
        return (self._folder / "log").read_text()


def context() -> ForkServerContext:
    """Where processes are forked from."""
    root = str(Path(__file__).parents[2])
    if root not in sys.path:
        sys.path.insert(0, root)
    forkserver = multiprocessing.get_context("forkserver")
    forkserver.set_forkserver_preload(PRELOADED)
    return forkserver


def start(
    environment: dict[str, str],
    folder: Path,
    arguments: list[str],
    fault: Fault | None,
    surroundings: Surroundings = NOWHERE_SPECIAL,
) -> TrainerProcess:
    """Starts an attempt with this environment and nothing else in it; without a Fault, as users run it."""
    folder.mkdir(parents=True)
    process = context().Process(target=_main, args=(environment, folder, arguments, fault, surroundings))
    process.start()
    return TrainerProcess(process, folder)


def _main(
    environment: dict[str, str], folder: Path, arguments: list[str], fault: Fault | None, surroundings: Surroundings
) -> None:
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG"}}
    os.environ.clear()
    os.environ.update(kept | environment)
    surroundings.settle()
    torch.set_num_threads(1)
    if fault is not None:
        _plant(fault, folder)
    code = main([*arguments, f"--termination-log={folder / 'termination-log'}"])
    sys.stderr.flush()
    os._exit(code)


def _plant(fault: Fault, own_folder: Path) -> None:
    _plant_in_steps(fault, own_folder)
    _plant_in_saves(fault)
    _wait_for_saves()
    if fault.patience_seconds is not None:
        vars(trainer_main)["Patience"] = partial(Patience, fault.patience_seconds)
    if fault.missing_package is not None:
        sys.modules[fault.missing_package] = None  # type: ignore[assignment] # Python's own sign for this
    _tell_the_test(own_folder)


def _plant_in_steps(fault: Fault, own_folder: Path) -> None:
    rate = schedule.learning_rate

    def rate_or_die(training: TrainingSpec, step: int, total: int) -> float:
        if step in {fault.at_step, fault.frozen_at_step, fault.hung_at_step}:
            (own_folder / "stands-still").touch()
        if step == fault.at_step:
            os.kill(os.getpid(), signal.SIGKILL)
        if fault.raising_at_step and step == fault.raising_at_step[0]:
            raise torch.OutOfMemoryError(fault.raising_at_step[1])
        if step == fault.frozen_at_step:
            os.kill(os.getpid(), signal.SIGSTOP)
        if step == fault.hung_at_step:
            Event().wait()
        return _ENDLESS if step == fault.endless_at_step else rate(training, step, total)

    loop.learning_rate = rate_or_die  # type: ignore[attr-defined] # a fault, planted


def _plant_in_saves(fault: Fault) -> None:
    commit = Repository._commit

    def commit_or_die(self: Repository, folder: StoreUri, manifest: Manifest) -> None:
        if manifest.step == fault.in_save_of_step:
            os.kill(os.getpid(), signal.SIGKILL)
        commit(self, folder, manifest)

    Repository._commit = commit_or_die  # type: ignore[method-assign] # a fault, planted


def _wait_for_saves() -> None:
    """A dozen steps of a tiny model take less time than one save: only so is it known which saves were done by when."""
    submit, keep = CheckpointWriter.submit, Keeper.keep

    def submit_and_wait(self: CheckpointWriter, snapshot: Snapshot) -> None:
        submit(self, snapshot)
        self.collect(timeout_seconds=None)

    def keep_and_wait(self: Keeper, key: str, source: Path, dataset_fingerprint: str) -> None:
        keep(self, key, source, dataset_fingerprint)
        self.wait()

    CheckpointWriter.submit = submit_and_wait  # type: ignore[method-assign] # see above
    Keeper.keep = keep_and_wait  # type: ignore[method-assign] # see above


def _tell_the_test(own_folder: Path) -> None:
    install, indices = StopSignal.install, Order.indices

    def install_and_tell(self: StopSignal) -> None:
        install(self)
        (own_folder / "listens").touch()

    def indices_and_tell(self: Order, position: int, length: int) -> list[int]:
        chosen = indices(self, position, length)
        with (own_folder / "samples").open("a") as file:
            file.write(f"{json.dumps(chosen)}\n")
        return chosen

    StopSignal.install = install_and_tell  # type: ignore[method-assign] # see above
    Order.indices = indices_and_tell  # type: ignore[method-assign] # see above
