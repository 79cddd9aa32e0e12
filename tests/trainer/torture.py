"""Training runs that are killed again and again: `make torture-trainer`, or `python -m tests.trainer.torture --help`.

Each run is killed with SIGKILL at random moments, wherever it is: loading, training, in the midst of a save. Then it
is left alone, and its adapter must be, to the bit, that of a run that nothing happened to.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from perdure_api.uri import parse_uri
from perdure_data.stores import Stores
from perdure_trainer.checkpoints.repository import torn
from tests.conftest import running_object_store
from tests.trainer import tiny
from tests.trainer.conftest import Attempts, Tiny, spec

ADAPTER_LIMIT_BYTES: Final = 2**24
TRIES: Final = 5
"""A run that reaches its end before it was killed often enough is begun again, this often."""
HEADER: Final = ("store", "run", "kills", "in loading", "in a save", "resumed", "seconds", "adapter")


@dataclass(frozen=True)
class Row:
    """What became of one run."""

    store: str
    number: int
    kills: int
    in_loading: int
    """Kills before the attempt had begun to train."""
    in_a_save: int
    """Kills that left a checkpoint without its manifest."""
    resumed: int
    """Attempts that went on from a checkpoint."""
    seconds: float
    equal: bool

    def cells(self) -> tuple[str, ...]:
        """What the table shows of it."""
        counts = (self.number, self.kills, self.in_loading, self.in_a_save, self.resumed)
        return (self.store, *map(str, counts), f"{self.seconds:.1f}", "equal" if self.equal else "DIFFERENT")


@dataclass(frozen=True)
class Place:
    """Where runs keep their work, and what they are trained from."""

    name: str
    uri: str
    environment: dict[str, str]
    files: Tiny
    folder: Path


@dataclass(frozen=True)
class Torture:
    """How hard it is."""

    place: Place
    steps: int
    kills: int
    draw: random.Random

    def undisturbed(self) -> tuple[str, float]:
        """The hash of the adapter of a run that nothing happens to, and its seconds."""
        run = self._run("undisturbed")
        seconds = _finish(run)
        return _adapter_hash(run), seconds

    def row(self, number: int, expected: str, seconds: float) -> Row:
        """One run, killed as often as asked for.

        Args:
            number: Of the run.
            expected: Hash of the adapter that must come out.
            seconds: What an undisturbed run takes.
        """
        for again in range(TRIES):
            begun = time.monotonic()
            run = self._run(f"run-{number}-{again}")
            # On average the kills together leave the run half of the time that it needs.
            kills = [_kill(run, self.draw.uniform(0, seconds / self.kills)) for _ in range(self.kills)]
            if None not in kills:
                _finish(run)
                return Row(
                    store=self.place.name,
                    number=number,
                    kills=self.kills,
                    in_loading=kills.count("loading"),
                    in_a_save=kills.count("saving"),
                    resumed=sum("training_resumed" in _log(run, each + 1) for each in range(run.started)),
                    seconds=time.monotonic() - begun,
                    equal=_adapter_hash(run) == expected,
                )
        raise SystemExit(f"run {number} was over before its {self.kills} kills, {TRIES} times; raise --steps")

    def _run(self, name: str) -> Attempts:
        training: dict[str, Any] = {"maxSteps": self.steps}
        # So often that a save is under way nearly all the time.
        whole = spec(self.place.files, training=training, checkpoint={"everySteps": 2})
        return Attempts(f"{self.place.uri}/{name}", whole, self.place.folder / name, self.place.environment)


def _kill(run: Attempts, after_seconds: float) -> str | None:
    """What an attempt was at when it was killed; None when it was over before."""
    if not run.start_with(None).kill_after(after_seconds):
        return None
    if "training_" not in _log(run, run.started):
        return "loading"
    left = [info.uri for info in Stores().list_objects(parse_uri(run.run_uri).child("attempts", str(run.started)))]
    return "saving" if torn(left, run.started) else "training"


def _finish(run: Attempts) -> float:
    """Seconds that the last attempt took."""
    attempt = run.start_with(None)
    attempt.wait_until_alive()
    begun = time.monotonic()
    ended = attempt.end()
    if ended.exit_code != 0:
        raise SystemExit(f"attempt {run.started} of {run.run_uri} ended with {ended.exit_code}:\n{ended.log}")
    return time.monotonic() - begun


def _log(run: Attempts, attempt: int) -> str:
    return (run.folder / f"attempt-{attempt}" / "log").read_text()


def _adapter_hash(run: Attempts) -> str:
    folder = parse_uri(run.run_uri).child("attempts", str(run.started), "adapter")
    content = Stores().read(folder.child("adapter_model.safetensors"), limit_bytes=ADAPTER_LIMIT_BYTES)
    return hashlib.sha256(content).hexdigest()


@contextmanager
def _places(names: list[str], folder: Path) -> Iterator[list[Place]]:
    files = Tiny(folder / "model", folder / "train.jsonl")
    tiny.write_model(files.model)
    tiny.write_dataset(files.dataset)
    with ExitStack() as stack:
        places = []
        for name in names:
            own = folder / name
            own.mkdir()
            if name == "file":
                places.append(Place(name, f"file://{own}/runs", {}, files, own))
                continue
            store = stack.enter_context(running_object_store(own))
            os.environ.update(store.environment)
            # The first write makes the bucket.
            Stores().put(parse_uri("s3://torture/README"), b"runs that were killed")
            places.append(Place(name, "s3://torture/runs", store.environment, files, own))
        yield places


def torture(places: list[Place], *, seed: int, runs: int, kills: int, steps: int) -> Iterator[Row]:
    """The rows of the table, as they come."""
    for place in places:
        this = Torture(place, steps, kills, random.Random(f"{seed} {place.name}"))
        expected, seconds = this.undisturbed()
        for number in range(1, runs + 1):
            yield this.row(number, expected, seconds)


def main(arguments: list[str] | None = None) -> int:
    """Prints the table; 0 when every adapter is equal."""
    parser = argparse.ArgumentParser(prog="torture", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the moments at which runs are killed (%(default)s)")
    parser.add_argument("--runs", type=int, default=10, help="runs on each store (%(default)s)")
    parser.add_argument("--kills", type=int, default=10, help="kills of each run (%(default)s)")
    parser.add_argument("--steps", type=int, default=600, help="optimizer steps of a run (%(default)s)")
    parser.add_argument("--stores", nargs="+", choices=["file", "s3"], default=["file", "s3"])
    options = parser.parse_args(arguments)
    rows = []
    with TemporaryDirectory(prefix="torture-") as folder, _places(options.stores, Path(folder)) as places:
        _say(_line(HEADER))
        for row in torture(places, seed=options.seed, runs=options.runs, kills=options.kills, steps=options.steps):
            rows.append(row)
            _say(_line(row.cells()))
    different = sum(not row.equal for row in rows)
    _say(
        f"seed {options.seed}: {sum(row.kills for row in rows)} kills ({sum(row.in_a_save for row in rows)} in a save, "
        f"{sum(row.in_loading for row in rows)} in loading) in {len(rows)} runs of {options.steps} steps; "
        f"{len(rows) - different} adapters bitwise equal to the undisturbed run's, {different} not"
    )
    return 1 if different else 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _line(cells: Sequence[str]) -> str:
    return "  ".join(f"{cell:>{max(9, len(name))}}" for cell, name in zip(cells, HEADER, strict=True))


if __name__ == "__main__":
    sys.exit(main())
