"""What was measured while jobs ran, as it is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.cluster import files
from bench.cluster.errors import BenchError

HEARTBEAT: Final = "RecordActivityTaskHeartbeat"
"""How Temporal counts heartbeats."""


@dataclass(frozen=True)
class Rates:
    """What everything uses, per second."""

    cpu: Mapping[str, float]
    """CPU seconds, by process."""
    requests: Mapping[str, float]
    """To the API server, by `VERB resource`."""
    temporal: Mapping[str, float]
    """To Temporal's frontend, by operation; empty when it does not tell."""


@dataclass(frozen=True)
class Restart:
    """All workers were ended at once."""

    how: str
    """`killed` (SIGKILL), or `asked` (a pod that is deleted has its grace period)."""
    again: Sequence[float]
    """Of each job: seconds from the end until a worker watched it again, in order."""
    cpu_seconds: Mapping[str, float]
    """Until all were watched again, by process, without the workers', which are others now."""
    requests: Mapping[str, int]


@dataclass(frozen=True)
class Held:
    """So many jobs that ran."""

    jobs: int
    minutes: float
    starting_seconds: float
    """From the first that was sent until all of them ran and were watched."""
    idle: Rates
    """Before there was any of them."""
    held: Rates
    memory: Mapping[str, Mapping[str, int]]
    """Of each process, in bytes: before, when all ran, at the end."""
    noticed: Sequence[float]
    """Seconds from a pod's end until its TrainingJob says Succeeded, of some of them, one after another."""
    completed: Sequence[float]
    """From the pod's end until its Job is Complete, of the same ones."""
    restarts: Sequence[Restart] = ()

    def more_cpu(self, who: str) -> float:
        """CPU seconds per second of a process that there would not be without the jobs."""
        return self.held.cpu[who] - self.idle.cpu[who]

    def cpu_per_job_and_minute(self, *processes: str) -> float:
        """CPU seconds per running job and minute, of processes together, beyond what they use without jobs."""
        return 60 * sum(map(self.more_cpu, processes)) / self.jobs

    @property
    def requests_per_job_and_minute(self) -> float:
        """Requests to the API server, beyond those that there are without jobs."""
        return 60 * (sum(self.held.requests.values()) - sum(self.idle.requests.values())) / self.jobs

    @property
    def heartbeats_per_second(self) -> float | None:
        """Of all jobs; None when Temporal does not tell."""
        return self.held.temporal.get(HEARTBEAT, 0.0) if self.held.temporal else None

    def bytes_per_job(self, who: str) -> float:
        """Memory that a process has more at the end than before."""
        return (self.memory[who]["end"] - self.memory[who]["before"]) / self.jobs


@dataclass
class Results:
    """Of all sizes, with what they depend on."""

    conditions: dict[str, Any]
    held: list[Held] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Writes all of it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), separators=(",", ":")))


def load(path: Path) -> Results:
    """What was saved.

    Raises:
        BenchError: there is no such file, or it is no such document.
    """
    try:
        document = json.loads(files.read(path))
        return Results(document["conditions"], [_held(each) for each in document["held"]])
    except FileNotFoundError as error:
        raise BenchError(f"found no results {path}, expected them from make bench-watch") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(f"{path} holds no results of bench-watch ({error}); delete it, and measure again") from error


def _held(document: dict[str, Any]) -> Held:
    rates = {name: Rates(**document[name]) for name in ("idle", "held")}
    return Held(**{**document, **rates, "restarts": [Restart(**each) for each in document["restarts"]]})
