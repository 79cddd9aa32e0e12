"""Whether what was seen is what was promised: pure, over what independent witnesses saw."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from tests.chaos.causes import Overlap, Spell, may_overlap
from tests.chaos.history import (
    Deserved,
    Event,
    Sight,
    backwards,
    ends,
    forgotten,
    miscounted,
    unexplained,
    untold,
)

BLIND_SECONDS = 10.0
"""For longer than this nobody may have looked at the processes."""


@dataclass
class Evidence:
    """All that was seen."""

    asked: int
    """Jobs that were to be tried."""
    deserved: Mapping[str, Deserved]
    sights: Mapping[str, Sequence[Sight]]
    adapters: Mapping[str, str]
    """SHA-256 by job."""
    gone: Collection[str] = ()
    """Jobs that were deleted on the way, and are no more."""
    events: Mapping[str, Sequence[Event]] = field(default_factory=dict)
    explained: Mapping[str, Collection[int]] = field(default_factory=dict)
    """By job: attempts that a fault met."""
    cut: Collection[str] = ()
    """Jobs that had a checkpoint spoilt."""
    overlaps: Sequence[Overlap] = ()
    node_spells: Sequence[Spell] = ()
    seen: Mapping[str, Collection[int]] = field(default_factory=dict)
    """By job: attempts of which processes were seen."""
    scans: int = 0
    longest_gap_seconds: float = 0.0
    """Between two scans."""
    late: Sequence[str] = ()
    """What an attempt wrote when a newer one had already committed."""
    left: Sequence[str] = ()
    """What was still there after everything was deleted."""


@dataclass
class Verdict:
    """What was wrong, in sentences."""

    jobs: int
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        return [*self.lost, *self.doubled, *self.orphans, *self.wrong]

    @property
    def clean(self) -> bool:
        return not self.problems

    def line(self, faults: int) -> str:
        """The last line."""
        return (
            f"{self.jobs} jobs, {faults} faults: lost {len(self.lost)}, doubled {len(self.doubled)}, "
            f"orphans {len(self.orphans)}, wrong {len(self.wrong)}"
        )


def judge(evidence: Evidence) -> Verdict:
    """The verdict on a whole run."""
    verdict = Verdict(jobs=len(evidence.deserved))
    if len(evidence.deserved) < max(1, evidence.asked):
        verdict.lost.append(f"{len(evidence.deserved)} of {evidence.asked} jobs were asked for")
    for job, deserved in evidence.deserved.items():
        sights = evidence.sights.get(job, ())
        _judge_end(verdict, evidence, job, deserved)
        verdict.wrong += [f"{job}: {problem}" for problem in _wrong_on_the_way(evidence, job, deserved, sights)]
    verdict.doubled = [
        f"{overlap.job}: attempts {', '.join(map(str, overlap.attempts))} ran together for {overlap.seconds:.1f} s"
        for overlap in evidence.overlaps
        if not may_overlap(overlap, evidence.node_spells, built_in=evidence.deserved[overlap.job].built_in)
    ] + list(evidence.late)
    verdict.orphans = list(evidence.left)
    verdict.wrong += _blind(evidence)
    return verdict


def _judge_end(verdict: Verdict, evidence: Evidence, job: str, deserved: Deserved) -> None:
    sights = evidence.sights.get(job, ())
    if deserved.gone:
        if job not in evidence.gone:
            verdict.lost.append(f"{job}: it was to be deleted and is still there")
        return
    if not sights or not sights[-1].terminal:
        verdict.lost.append(f"{job}: {f'{sights[-1]}, and no end' if sights else 'never seen'}")
        return
    last = sights[-1]
    if (last.phase, last.reason) != (deserved.phase, deserved.reason):
        found, expected = f"{last.phase} ({last.reason})", f"{deserved.phase} ({deserved.reason})"
        verdict.wrong.append(f"{job}: ended {found}, deserved {expected}")
    elif deserved.adapter is not None and evidence.adapters.get(job) != deserved.adapter:
        verdict.wrong.append(f"{job}: its adapter is not that of an undisturbed run")


def _wrong_on_the_way(evidence: Evidence, job: str, deserved: Deserved, sights: Sequence[Sight]) -> list[str]:
    cut = job in evidence.cut
    problems = backwards(sights, cut=cut)
    ended = ends(sights)
    problems += unexplained(ended, deserved.natural, evidence.explained.get(job, ()))
    if not cut:
        problems += forgotten(ended)
    if sights and sights[-1].terminal and not deserved.gone:
        problems += miscounted(sights[-1], ended)
        problems += untold(sights[-1].started, ended, evidence.events.get(job, ()))
        problems += _unseen(evidence, job, deserved, sights[-1])
    return problems


def _unseen(evidence: Evidence, job: str, deserved: Deserved, last: Sight) -> list[str]:
    """An attempt that did all its work was there for some time: who looked often enough has seen it."""
    if deserved.lasts_seconds <= evidence.longest_gap_seconds:
        return []
    done = [number for number, attempt in last.attempts.items() if attempt.get("reason") == "Completed"]
    return [
        f"attempt {number} did its work, and no process of it was seen"
        for number in done
        if number not in evidence.seen.get(job, ())
    ]


def _blind(evidence: Evidence) -> list[str]:
    if not evidence.scans:
        return ["nobody looked at the processes"]
    if evidence.longest_gap_seconds > BLIND_SECONDS:
        return [f"nobody looked at the processes for {evidence.longest_gap_seconds:.0f} s"]
    return []
