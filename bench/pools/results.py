"""What was seen of a pool while tasks were dropped on it, as it is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.cluster import files
from bench.cluster.errors import BenchError
from bench.cluster.tasks import Course, Task

PERDURE: Final = "perdure"
KEDA: Final = "keda"
NAMES: Final[Mapping[str, str]] = {PERDURE: "Perdure", KEDA: "KEDA's Temporal scaler"}
"""Who sizes the pool, as people read it."""


@dataclass(frozen=True)
class Sample:
    """One look, in seconds since the drop."""

    seconds: float
    backlog: int
    """Tasks that wait, by Temporal."""
    told: float | None
    """What the autoscaler is told by the external metrics API; None: an error."""
    wanted: int
    """Replicas, by the Deployment's spec."""
    ready: int
    busy: int
    """Slots in use, by the workers' pods."""


@dataclass(frozen=True)
class Drop:
    """Tasks that came at once, until the pool was as small again as before."""

    autoscaler: str
    least: int
    """Replicas before and afterwards."""
    dropping_seconds: float
    """Until the last task was there."""
    samples: Sequence[Sample]
    tasks: Sequence[Task]
    """All moments since the drop."""
    stops: Mapping[str, float]
    """When a pod was told to stop, by its name."""

    @property
    def raised(self) -> float | None:
        """Seconds until more replicas were wanted."""
        return next((sample.seconds for sample in self.samples if sample.wanted > self.least), None)

    @property
    def most(self) -> int:
        """Replicas that were wanted at the same time."""
        return max(sample.wanted for sample in self.samples)

    @property
    def all_ready(self) -> float | None:
        """Seconds until as many were ready as were ever wanted."""
        return next((sample.seconds for sample in self.samples if sample.ready >= self.most), None)

    @property
    def last_done(self) -> float:
        """Seconds until the last task was done."""
        return max(task.ended for task in self.tasks)

    @property
    def back(self) -> float | None:
        """Seconds until as few were wanted as before, and no more afterwards; None: never."""
        above = [place for place, sample in enumerate(self.samples) if sample.wanted != self.least]
        if not above:
            return 0.0
        return self.samples[above[-1] + 1].seconds if above[-1] + 1 < len(self.samples) else None

    @property
    def begun(self) -> int:
        """How often a task was begun, all together."""
        return sum(task.attempts for task in self.tasks)

    @property
    def in_hand_at_a_stop(self) -> int:
        """Tasks that a worker had in hand when it was told to stop: it finished them, or another one had to."""
        finished = sum(
            task.started < self.stops[task.worker] < task.ended for task in self.tasks if task.worker in self.stops
        )
        return finished + self.count(Course.HANDED_OVER) + self.count(Course.BEGUN_AGAIN)

    def count(self, course: Course) -> int:
        """Tasks that went so."""
        return sum(task.course == course for task in self.tasks)


@dataclass
class Results:
    """With each autoscaler, and what the figures depend on."""

    conditions: dict[str, Any]
    drops: list[Drop] = field(default_factory=list)

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
        return Results(document["conditions"], [_drop(each) for each in document["drops"]])
    except FileNotFoundError as error:
        raise BenchError(f"found no results {path}, expected them from make bench-pools") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(f"{path} holds no results of bench-pools ({error}); delete it, and measure again") from error


def _drop(document: dict[str, Any]) -> Drop:
    samples = [Sample(**each) for each in document["samples"]]
    tasks = [Task(**{**each, "course": Course(each["course"])}) for each in document["tasks"]]
    return Drop(**{**document, "samples": samples, "tasks": tasks})
