"""What the status and the Events of one TrainingJob said over time, and whether they hold together: pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Final

Document = dict[str, Any]

SHOWN: Final = 10
"""A status shows so many of its newest attempts."""
_MESSAGE_LIMIT: Final = 1024
_DISRUPTED: Final = frozenset({"Disrupted", "JobDeleted", "Fenced"})
_UNCOUNTED: Final = frozenset({"Completed", "Regrown", "Cancelled", "JobRefused"})
_GOES_ON: Final = frozenset({"Completed", "Regrown", "Suspended", "Cancelled"})
"""Ends of attempts after which nobody is told of another one as of a trouble."""


@dataclass(frozen=True)
class Sight:
    """A TrainingJob at one moment."""

    status: Document
    """Without when it was told and of which generation: these may go on after the end."""
    version: int = 0
    """resourceVersion."""
    at: float = 0.0
    """When it was told, in monotonic seconds."""

    def __str__(self) -> str:
        return f"{self.phase or 'no phase'} ({self.status.get('message', '')}), {self.started} attempts"

    @property
    def phase(self) -> str:
        return str(self.status.get("phase", ""))

    @cached_property
    def _succeeded(self) -> Document:
        conditions = self.status.get("conditions") or []
        return next((each for each in conditions if each["type"] == "Succeeded"), {})

    @property
    def terminal(self) -> bool:
        return self._succeeded.get("status") in {"True", "False"}

    @property
    def reason(self) -> str:
        """Of the end."""
        return str(self._succeeded.get("reason", ""))

    @property
    def counters(self) -> dict[str, int]:
        return self.status.get("attemptCounters") or {}

    @property
    def started(self) -> int:
        return self.counters.get("started", 0)

    @cached_property
    def attempts(self) -> dict[int, Document]:
        """Those that are shown, by number."""
        return {each["number"]: each for each in self.status.get("attempts") or []}

    @property
    def step(self) -> int:
        return (self.status.get("progress") or {}).get("step") or 0

    @property
    def checkpoint_step(self) -> int:
        return (self.status.get("checkpoint") or {}).get("step") or 0

    @property
    def checkpoint(self) -> str:
        """URI of the newest."""
        return str((self.status.get("checkpoint") or {}).get("uri", ""))

    @property
    def result(self) -> str:
        """URI of the adapter."""
        return str((self.status.get("result") or {}).get("adapterUri", ""))


def sight_of(document: Document, at: float = 0.0) -> Sight:
    """What counts of a TrainingJob."""
    status = _without(document.get("status") or {}, "observedGeneration")
    if "conditions" in status:
        status["conditions"] = [_without(each, "observedGeneration") for each in status["conditions"]]
    if "workflow" in status:
        status["workflow"] = _without(status["workflow"], "asOf")
    return Sight(status, int(document.get("metadata", {}).get("resourceVersion") or 0), at)


def _without(document: Document, name: str) -> Document:
    return {key: value for key, value in document.items() if key != name}


@dataclass(frozen=True)
class Event:
    """A Kubernetes Event about a TrainingJob."""

    type: str
    reason: str
    message: str


@dataclass(frozen=True)
class Deserved:
    """What a job deserves, whatever befalls it."""

    phase: str
    reason: str
    adapter: str | None = None
    """SHA-256 of the adapter of a run that nothing happened to."""
    built_in: bool = False
    nodes: int = 1
    natural: Collection[str] = ("Completed",)
    """Reasons with which its attempts end without any fault."""
    lasts_seconds: float = 0.0
    """Its work takes no less."""
    gone: bool = False
    """It is deleted on its way."""


def backwards(sights: Sequence[Sight], *, cut: bool = False) -> list[str]:
    """Where a status went back, or changed after the end.

    Args:
        sights: In the order of their versions; some between may be missing.
        cut: Whether a checkpoint of it was spoilt, so that an older one may follow.
    """
    problems: list[str] = []
    may_fall = False
    for before, after in pairwise(sights):
        if before.terminal:
            if changed := _changes(before.status, after.status):
                problems.append(f"its status changed after the end: {changed}{_where(before, after)}")
            continue
        found = [*_counters_back(before, after), *_attempts_back(before, after)]
        if after.checkpoint_step < before.checkpoint_step and not cut:
            found.append(f"its checkpoint went back from step {before.checkpoint_step} to {after.checkpoint_step}")
        # What is shown is the last attempt's until the new one speaks, which may begin lower: once.
        may_fall = may_fall or after.started > before.started
        if after.step < before.step:
            if not may_fall:
                found.append(f"its step went back from {before.step} to {after.step} in one attempt")
            may_fall = False
        problems += [f"{each}{_where(before, after)}" for each in found]
    return problems


def _where(before: Sight, after: Sight) -> str:
    return f" (resourceVersion {before.version}, then {after.version})"


def _changes(before: Document, after: Document) -> str:
    names = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    return "; ".join(f"{name} {before.get(name)} became {after.get(name)}" for name in names)


def _counters_back(before: Sight, after: Sight) -> Iterator[str]:
    for name, count in before.counters.items():
        if after.counters.get(name, 0) < count:
            yield f"attemptCounters.{name} went back from {count} to {after.counters.get(name, 0)}"


def _attempts_back(before: Sight, after: Sight) -> Iterator[str]:
    for number, told in before.attempts.items():
        now = after.attempts.get(number)
        if now is None:
            if number > max(after.started, before.started) - SHOWN:
                yield f"attempt {number} is not shown any more"
        elif told.get("endTime") and now != told:
            yield f"the end of attempt {number} changed: {_changes(told, now)}"


def ends(sights: Sequence[Sight]) -> dict[int, Document]:
    """Attempts that have ended, by number: as they were last shown."""
    return {number: attempt for sight in sights for number, attempt in sight.attempts.items() if attempt.get("endTime")}


def miscounted(last: Sight, ended: Mapping[int, Document]) -> list[str]:
    """Where the counters at the end are not the sums of what the attempts were shown to end with."""
    open_ = [f"attempt {number} has no end" for number in last.attempts if number not in ended]
    if open_ or set(ended) != set(range(1, last.started + 1)):
        return open_  # of more than are shown at a time, a watch that broke off may have missed some
    sums = {"failed": 0, "disrupted": 0, "suspended": 0, "unplaced": 0}
    for attempt in ended.values():
        if counter := _counter(attempt.get("reason", "")):
            sums[counter] += 1
    return [
        f"attemptCounters.{name} is {last.counters.get(name, 0)}, and {count} attempts ended so"
        for name, count in sums.items()
        if last.counters.get(name, 0) != count
    ]


def _counter(reason: str) -> str | None:
    if reason in _UNCOUNTED:
        return None
    named = {"Suspended": "suspended", "NoCapacity": "unplaced", "ImagePullFailed": "unplaced"}
    return "disrupted" if reason in _DISRUPTED else named.get(reason, "failed")


def unexplained(ended: Mapping[int, Document], natural: Collection[str], explained: Collection[int]) -> list[str]:
    """Attempts that ended as no attempt of this kind does by itself, though no fault met them."""
    return [
        f"attempt {number} ended as {attempt.get('reason')} ({attempt.get('message', '')}), and nothing was done to it"
        for number, attempt in ended.items()
        if attempt.get("reason") not in natural and number not in explained
    ]


def untold(started: int, ended: Mapping[int, Document], events: Sequence[Event]) -> list[str]:
    """Attempts after which another one came, and of which not exactly one Warning says so."""
    problems = []
    for number, attempt in ended.items():
        reason = attempt.get("reason", "")
        if number >= started or reason in _GOES_ON:
            continue
        says = f"attempt {number}: {attempt.get('message', '')}"[:_MESSAGE_LIMIT]
        told = [each for each in events if (each.type, each.reason) == ("Warning", reason)]
        times = sum(each.message.startswith(says) for each in told)
        if times != 1:
            problems.append(f"that attempt {number} ended as {reason} is told by {times} Events")
    return problems


def forgotten(ended: Mapping[int, Document]) -> list[str]:
    """Attempts that began before what an earlier one had saved."""
    problems = []
    saved, by = 0, 0
    for number, attempt in sorted(ended.items()):
        begun = attempt.get("fromStep")
        if begun is not None and begun < saved:
            problems.append(f"attempt {number} began at step {begun}, and attempt {by} had saved step {saved}")
        if attempt.get("checkpointStep", 0) > saved:
            saved, by = attempt["checkpointStep"], number
    return problems


def steps_lost(ended: Mapping[int, Document]) -> list[int]:
    """Steps that were done again: of each two attempts of which it is known where one ended and the next began."""
    return [
        max(0, ended[number]["toStep"] - ended[number + 1]["fromStep"])
        for number in sorted(ended)
        if ended[number].get("toStep") is not None and ended.get(number + 1, {}).get("fromStep") is not None
    ]
