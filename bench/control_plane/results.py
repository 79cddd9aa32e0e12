"""What was measured, as it is kept, and the figures that follow from it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.cluster import files
from bench.cluster.errors import BenchError
from bench.cluster.figures import quantile
from bench.cluster.installation import OTHERS
from bench.cluster.requests import Request
from bench.control_plane.moments import Moments


@dataclass(frozen=True)
class Plan:
    """One run that is to be made."""

    kind: str
    jobs: int
    at_once: bool
    """Or one after another."""
    turn: int
    """Every turn measures everything once."""

    @property
    def load(self) -> str:
        """What both kinds are compared under."""
        return f"{self.jobs:,} at once" if self.at_once else f"{self.jobs:,} one by one"

    def __str__(self) -> str:
        return f"{self.load}, {self.kind}, turn {self.turn + 1}"


@dataclass(frozen=True)
class Run:
    """One run that was made."""

    plan: Plan
    jobs: Sequence[Moments]
    cpu_seconds: Mapping[str, float]
    """Of each process while it lasted."""
    requests: Mapping[str, int]
    """To the API server while it lasted, by `VERB resource`."""
    objects: Mapping[str, int]
    """That are there afterwards, by resource."""
    memory: Mapping[str, Mapping[str, int]]
    """Of each process, in bytes: before, most, after."""
    story: Mapping[str, float] = field(default_factory=dict)
    """Of a workflow, on the average; nothing for plain Jobs."""
    own_cpu_seconds: float = 0.0
    """Of the program that measured."""

    @property
    def seconds(self) -> float:
        """From the first that was sent to the end of the last."""
        return max(_of(self.jobs, "succeeded")) - min(_of(self.jobs, "applied"))

    @property
    def jobs_per_second(self) -> float:
        """Over the whole run."""
        return len(self.jobs) / self.seconds

    def lag(self, since: str, until: str, share: float) -> float:
        """A quantile of the seconds from one moment of a job to another one."""
        return quantile([b - a for a, b in zip(_of(self.jobs, since), _of(self.jobs, until), strict=True)], share)

    @property
    def cpu_seconds_per_job(self) -> float:
        """Of all processes that have a part in it."""
        return sum(seconds for name, seconds in self.cpu_seconds.items() if name != OTHERS) / len(self.jobs)

    @property
    def requests_per_job(self) -> float:
        """Everything that the API server was asked."""
        return sum(self.requests.values()) / len(self.jobs)

    @property
    def writes_per_job(self) -> float:
        """What changed something, Events included."""
        return sum(n for text, n in self.requests.items() if Request.parse(text).writes) / len(self.jobs)

    @property
    def objects_per_job(self) -> float:
        """What each leaves behind, Events not counted."""
        return sum(number for name, number in self.objects.items() if not name.startswith("events")) / len(self.jobs)


def _of(jobs: Sequence[Moments], what: str) -> list[float]:
    return [getattr(moments, what) for moments in jobs]


@dataclass
class Results:
    """Of all runs, with what they depend on."""

    conditions: dict[str, Any]
    runs: list[Run] = field(default_factory=list)

    def has(self, plan: Plan) -> bool:
        """Whether this one was made already."""
        return any(run.plan == plan for run in self.runs)

    def of(self, load: str, kind: str) -> list[Run]:
        """All turns of one measurement."""
        return [run for run in self.runs if run.plan.load == load and run.plan.kind == kind]

    @property
    def loads(self) -> list[str]:
        """What was measured, in order."""
        return list(dict.fromkeys(run.plan.load for run in self.runs))

    def save(self, path: Path) -> None:
        """Writes all of it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = [each.name for each in dataclasses.fields(Moments)]
        runs = [{**asdict(run), "jobs": [list(asdict(each).values()) for each in run.jobs]} for run in self.runs]
        document = {"conditions": self.conditions, "moments": columns, "runs": runs}
        path.write_text(json.dumps(document, separators=(",", ":")))


def load(path: Path) -> Results:
    """What was saved.

    Raises:
        BenchError: there is no such file, or it is no such document.
    """
    try:
        document = json.loads(files.read(path))
        columns = document["moments"]
        runs = [
            Run(
                **{
                    **run,
                    "plan": Plan(**run["plan"]),
                    "jobs": [Moments(**dict(zip(columns, row, strict=True))) for row in run["jobs"]],
                }
            )
            for run in document["runs"]
        ]
        return Results(document["conditions"], runs)
    except FileNotFoundError as error:
        raise BenchError(f"found no results {path}, expected them from make bench-control-plane") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(
            f"{path} holds no results of bench-control-plane ({error}); delete it, and measure again"
        ) from error
