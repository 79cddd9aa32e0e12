"""Whether what was seen is what was promised: pure, over what independent witnesses saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

Document = dict[str, Any]


@dataclass(frozen=True)
class Sight:
    """A TrainingJob at one moment."""

    phase: str
    succeeded: str
    """Status of the condition; "" when there is none."""
    reason: str
    started: int
    """Attempts so far."""
    step: int
    result: str
    """URI of the adapter."""

    @property
    def terminal(self) -> bool:
        return self.succeeded in {"True", "False"}


def sight_of(document: Document) -> Sight:
    """What counts of a TrainingJob."""
    status = document.get("status") or {}
    conditions = {each["type"]: each for each in status.get("conditions") or []}
    succeeded = conditions.get("Succeeded", {})
    return Sight(
        phase=status.get("phase", ""),
        succeeded=succeeded.get("status", ""),
        reason=succeeded.get("reason", ""),
        started=(status.get("attemptCounters") or {}).get("started", 0),
        step=(status.get("progress") or {}).get("step") or 0,
        result=(status.get("result") or {}).get("adapterUri", ""),
    )


@dataclass(frozen=True)
class Overlap:
    """Processes of two attempts of one job at the same time."""

    job: str
    attempts: tuple[int, ...]
    seconds: float


@dataclass(frozen=True)
class Deserved:
    """The end that a job deserves."""

    phase: str
    reason: str
    adapter: str | None = None
    """SHA-256 of the adapter of a run that nothing happened to."""


@dataclass
class Evidence:
    """All that was seen."""

    deserved: Mapping[str, Deserved]
    sights: Mapping[str, Sequence[Sight]]
    adapters: Mapping[str, str]
    """SHA-256 by job."""
    overlaps: Sequence[Overlap] = ()
    left: Sequence[str] = ()
    """Objects and processes that were still there after everything was deleted."""


@dataclass
class Verdict:
    """What was wrong, in sentences."""

    jobs: int
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.lost or self.doubled or self.orphans or self.wrong)

    def line(self, faults: int) -> str:
        """The last line."""
        return (
            f"{self.jobs} jobs, {faults} faults: lost {len(self.lost)}, doubled {len(self.doubled)}, "
            f"orphans {len(self.orphans)}, wrong {len(self.wrong)}"
        )


def judge(evidence: Evidence) -> Verdict:
    """The verdict on a whole run."""
    verdict = Verdict(jobs=len(evidence.deserved))
    for job, deserved in evidence.deserved.items():
        sights = evidence.sights.get(job, ())
        verdict.wrong += [f"{job}: {problem}" for problem in backwards(sights)]
        if not sights or not sights[-1].terminal:
            verdict.lost.append(f"{job}: {sights[-1] if sights else 'never seen'}")
            continue
        last = sights[-1]
        if (last.phase, last.reason) != (deserved.phase, deserved.reason):
            found, expected = f"{last.phase} ({last.reason})", f"{deserved.phase} ({deserved.reason})"
            verdict.wrong.append(f"{job}: ended {found}, deserved {expected}")
        elif deserved.adapter and evidence.adapters.get(job) != deserved.adapter:
            verdict.wrong.append(f"{job}: its adapter is not that of an undisturbed run")
    verdict.doubled = [
        f"{overlap.job}: attempts {', '.join(map(str, overlap.attempts))} ran together for {overlap.seconds:.1f} s"
        for overlap in evidence.overlaps
    ]
    verdict.orphans = list(evidence.left)
    return verdict


def backwards(sights: Sequence[Sight]) -> list[str]:
    """Where a status went back, or changed after the end."""
    problems = []
    may_fall = False
    for before, after in pairwise(sights):
        end, later = ((each.succeeded, each.reason, each.result) for each in (before, after))
        if before.terminal and end != later:
            problems.append(f"its end changed: {before} became {after}")
        if after.started < before.started:
            problems.append(f"its attempts went back from {before.started} to {after.started}")
        # What is shown is the last attempt's until the new one speaks, which may begin lower: once.
        may_fall = may_fall or after.started > before.started
        if after.step < before.step:
            if not may_fall:
                problems.append(f"its step went back from {before.step} to {after.step} in one attempt")
            may_fall = False
    return problems
