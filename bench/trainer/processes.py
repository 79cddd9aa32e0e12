"""Trainers as processes that tell what they do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recipe import WARM_UP

NAMES = {
    "hf": "HF Trainer + peft, padded",
    "trl": "TRL SFTTrainer, packing",
    "perdure": "Perdure",
    "perdure-unpacked": "Perdure, packing: false",
}


class BenchError(Exception):
    """A sentence for people."""


class Process:
    """A Python program that tells what it does, a line of JSON each."""

    def __init__(self, log: Path, *arguments: object) -> None:
        self.log = log
        with log.open("w") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=environment(),
                start_new_session=True,  # Ctrl-C is for us; they are ended by us
            )

    def go_on(self) -> None:
        """Writes it a line."""
        assert self._process.stdin
        try:
            print(file=self._process.stdin, flush=True)
        except BrokenPipeError:
            self._refuse()

    def told(self) -> dict[str, Any]:
        """The next line."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            self._refuse()
        found: dict[str, Any] = json.loads(line)
        return found

    def end(self) -> None:
        """Ends it if it is not over yet."""
        self._process.kill()
        self._process.communicate()

    def _refuse(self) -> None:
        code = self._process.wait()
        last = self.log.read_text(errors="replace").strip().splitlines()[-1:]
        raise BenchError(f"ended with {code} ({' '.join(last)[:200]}); all it said is in {self.log}")


@dataclass
class Peer:
    """A trainer, and what it has done."""

    name: str
    process: Process
    steps: list[dict[str, float]] = field(default_factory=list)
    held_out_loss: float | None = None
    base_loss: float | None = None
    fault: str = ""

    def turn(self) -> None:
        """Lets it take one step; the turn after the last is for the held-out loss."""
        try:
            self.process.go_on()
            told = self.process.told()
        except BenchError as error:
            self.fault = str(error)
            return
        if "held_out_loss" in told:
            self.held_out_loss, self.base_loss = told["held_out_loss"], told.get("base_loss")
        else:
            self.steps.append(told)

    def rate(self, what: str = "seconds") -> float:
        """Tokens for each second of that kind, after the warm-up."""
        counted = self.steps[WARM_UP:]
        return sum(step["tokens"] for step in counted) / sum(step[what] for step in counted)

    @property
    def measured(self) -> bool:
        """Whether there is anything to show."""
        return len(self.steps) > WARM_UP


@dataclass
class Results:
    """All that was measured, and what could not be."""

    conditions: dict[str, Any]
    peers: list[Peer] = field(default_factory=list)
    restart: dict[str, float] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def environment() -> dict[str, str]:
    """What all of them are run with."""
    root = Path(__file__).parents[2]
    return {
        **os.environ,
        "PYTHONPATH": ":".join(str(root / room) for room in ("api", "data", "trainer")),
        "OMP_NUM_THREADS": str(len(os.sched_getaffinity(0))),
        "OMP_WAIT_POLICY": "PASSIVE",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TQDM_DISABLE": "1",
    }
