"""What was measured, as it is kept, and the figures that follow from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.cluster import files
from bench.cluster.errors import BenchError
from bench.cluster.figures import quantile

MEMORY: Final = "memory"
FILE: Final = "file"
POSTGRESQL: Final = "postgresql"
STORES: Final[Mapping[str, str]] = {
    MEMORY: "development server, in memory",
    FILE: "development server, SQLite file",
    POSTGRESQL: "server on PostgreSQL",
}
"""Where a Temporal keeps its data, and what that is called in tables."""
SERVER: Final = "server"
DATABASE: Final = "database"
WORKER: Final = "worker"
PARTS: Final = (SERVER, DATABASE, WORKER)
TEMPORAL: Final = (SERVER, DATABASE)
"""What of it is Temporal itself. A development server's database is within the server."""


@dataclass(frozen=True)
class Plan:
    """One run that is to be made."""

    store: str
    workflows: int
    at_once: bool
    """Or one after another."""
    turn: int
    """Every turn measures everything once."""

    @property
    def load(self) -> str:
        """What stores are compared under."""
        return f"{self.workflows:,} at once" if self.at_once else f"{self.workflows:,} one by one"

    def __str__(self) -> str:
        return f"{STORES[self.store]}, {self.load}, turn {self.turn + 1}"


@dataclass(frozen=True)
class Run:
    """One run that was made."""

    plan: Plan
    seconds: float
    """From before the first was started to the end of the last, by Temporal's own account of it."""
    lasted: Sequence[float]
    """Of each workflow, seconds from before it was started to its end."""
    cpu_seconds: Mapping[str, float]
    """Of each of PARTS until all were told to be done; nothing where a store has no such part."""
    memory: Mapping[str, Mapping[str, int]]
    """Of the same, in bytes: before, most, after."""
    disk_bytes: int
    """By which the data on disk have grown, without a database's log of what it is about to write."""
    story: Mapping[str, float] = field(default_factory=dict)
    """Of a workflow, on the average."""
    own_cpu_seconds: float = 0.0
    """Of the program that measured, which starts the workflows."""

    @property
    def workflows_per_second(self) -> float:
        """Over the whole run."""
        return self.plan.workflows / self.seconds

    def latency(self, share: float) -> float:
        """A quantile of how long a workflow lasted, in seconds."""
        return quantile(self.lasted, share)

    def cpu_per_workflow(self, *parts: str) -> float:
        """CPU seconds of these parts, or of all."""
        return sum(self.cpu_seconds.get(part, 0.0) for part in parts or PARTS) / self.plan.workflows

    @property
    def cpus_busy(self) -> float:
        """How many CPUs all of it kept busy, the measuring program with it.

        Over a little more than the run: CPU time is read once nothing is left to do.
        """
        return (sum(self.cpu_seconds.values()) + self.own_cpu_seconds) / self.seconds


@dataclass(frozen=True)
class Held:
    """Workflows that stayed open, each with an activity that heartbeats."""

    store: str
    workflows: int
    turn: int
    minutes: float
    idle_cpu: Mapping[str, float]
    """CPU seconds a second of each of PARTS without any open."""
    held_cpu: Mapping[str, float]
    """The same with all of them open."""
    memory: Mapping[str, Mapping[str, int]]
    """In bytes: before, held."""

    def cpu_per_minute(self, *parts: str) -> float:
        """CPU seconds of these parts, or of all, for each open workflow and minute, beyond those without any."""
        more = sum(self.held_cpu.get(part, 0.0) - self.idle_cpu.get(part, 0.0) for part in parts or PARTS)
        return 60 * more / self.workflows

    def bytes_per_workflow(self, part: str) -> float:
        """Memory that an open workflow takes."""
        return (self.memory[part]["held"] - self.memory[part]["before"]) / self.workflows


@dataclass
class Results:
    """Of all runs, with what they depend on."""

    conditions: dict[str, Any]
    runs: list[Run] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)

    def has(self, plan: Plan) -> bool:
        """Whether this one was made already."""
        return any(run.plan == plan for run in self.runs)

    def has_held(self, store: str, workflows: int, turn: int) -> bool:
        """Whether so many were held open already."""
        return any((held.store, held.workflows, held.turn) == (store, workflows, turn) for held in self.held)

    def of(self, load: str, store: str) -> list[Run]:
        """All turns of one measurement."""
        return [run for run in self.runs if run.plan.load == load and run.plan.store == store]

    @property
    def loads(self) -> list[str]:
        """What was measured, in order."""
        return list(dict.fromkeys(run.plan.load for run in self.runs))

    @property
    def stores(self) -> list[str]:
        """Those that were measured, in the order of STORES, whatever order a turn had."""
        found = {run.plan.store for run in self.runs} | {held.store for held in self.held}
        return [store for store in STORES if store in found]

    def save(self, path: Path) -> None:
        """Writes all of it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {"conditions": self.conditions, "runs": [*map(asdict, self.runs)], "held": [*map(asdict, self.held)]}
        path.write_text(json.dumps(document, separators=(",", ":")))


def load(path: Path) -> Results:
    """What was saved.

    Raises:
        BenchError: there is no such file, or it is no such document.
    """
    try:
        document = json.loads(files.read(path))
        runs = [Run(**{**run, "plan": Plan(**run["plan"])}) for run in document["runs"]]
        return Results(document["conditions"], runs, [Held(**held) for held in document["held"]])
    except FileNotFoundError as error:
        raise BenchError(f"found no results {path}, expected them from make bench-temporal") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(
            f"{path} holds no results of bench-temporal ({error}); delete it, and measure again"
        ) from error
