from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from perdure_api.pod import Env
from perdure_api.uri import StoreUri, parse_uri
from perdure_data.stores import Stores
from tests.trainer import process, tiny
from tests.trainer.surroundings import Surroundings


@pytest.fixture
def stores() -> Stores:
    return Stores()


@pytest.fixture(params=["file", "s3"])
def run_uri(request: pytest.FixtureRequest, tmp_path: Path) -> StoreUri:
    """The folder of a run: each test that asks for it runs on a file system and on S3."""
    if request.param == "file":
        return parse_uri(f"file://{tmp_path}/output/runs/uid-1")
    folder = request.getfixturevalue("s3_folder")
    Stores().put(parse_uri(f"{folder}/bucket"), b"is there, whichever test comes first")
    return parse_uri(f"{folder}/runs/uid-1")


@dataclass(frozen=True)
class Tiny:
    """A tiny model and what it can learn from."""

    model: Path
    dataset: Path


@pytest.fixture(scope="session")
def tiny_files(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    folder = tmp_path_factory.mktemp("tiny")
    tiny.write_model(folder / "model")
    tiny.write_dataset(folder / "train.jsonl")
    return Tiny(folder / "model", folder / "train.jsonl")


def spec(files: Tiny, **parts: dict[str, Any]) -> dict[str, Any]:
    """A spec for the tiny model; parts replace or add to the fields below."""
    whole: dict[str, dict[str, Any]] = {
        "model": {"uri": f"file://{files.model}"},
        "dataset": {"uri": f"file://{files.dataset}"},
        "lora": {"rank": 4, "dropout": 0.1},
        "training": {"maxSteps": 12, "batchSize": 4, "sequenceLength": 16, "learningRate": 0.01, "seed": 7},
        "checkpoint": {"everySteps": 3},
    }
    return {name: {**whole.get(name, {}), **parts.get(name, {})} for name in whole.keys() | parts.keys()}


@dataclass
class Attempts:
    """Starts one attempt at a run after another."""

    run_uri: str
    spec: dict[str, Any]
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    surroundings: Surroundings = field(default_factory=Surroundings)
    arguments: list[str] = field(default_factory=list)
    started: int = 0

    def start(
        self, *, at_step: int | None = None, in_save_of_step: int | None = None, **environment: str
    ) -> process.TrainerProcess:
        """Starts the next attempt, which may die at a given place."""
        return self.start_with(process.Fault(at_step, in_save_of_step), **environment)

    def start_with(self, fault: process.Fault | None, **environment: str) -> process.TrainerProcess:
        """Starts the next attempt; without a fault, as users run it."""
        self.started += 1
        return self._start(f"attempt-{self.started}", fault, environment)

    def _start(self, name: str, fault: process.Fault | None, environment: Mapping[str, str]) -> process.TrainerProcess:
        folder = self.folder / name
        own: dict[str, str] = {
            Env.SPEC: json.dumps(self.spec),
            Env.JOB_NAME: "job",
            Env.JOB_UID: "uid-1",
            Env.ATTEMPT: str(self.started),
            Env.RUN_URI: self.run_uri,
            Env.SCRATCH: str(folder / "scratch"),
        }
        merged = {str(name): value for name, value in {**self.environment, **own, **environment}.items() if value}
        return process.start(merged, folder, self.arguments, fault, self.surroundings)

    def start_ranks(
        self, *faults: process.Fault, of_rank_1: Mapping[str, str] | None = None
    ) -> list[process.TrainerProcess]:
        """Starts the next attempt with a rank for each fault; rank 1 may be told something else."""
        self.started += 1
        together: dict[str, str] = {
            Env.NNODES: str(len(faults)),
            Env.MASTER_ADDR: "127.0.0.1",
            Env.MASTER_PORT: str(_free_port()),
        }
        return [
            self._start(
                f"attempt-{self.started}-rank-{rank}",
                fault,
                {**together, Env.NODE_RANK: str(rank), **(of_rank_1 or {} if rank == 1 else {})},
            )
            for rank, fault in enumerate(faults)
        ]

    def run(self, **options: Any) -> process.Ended:
        """Starts the next attempt and waits for its end."""
        return self.start(**options).end()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def attempts(tiny_files: Tiny, tmp_path: Path) -> Attempts:
    """Attempts at a run on a file system."""
    return Attempts(f"file://{tmp_path}/run", spec(tiny_files), tmp_path)
