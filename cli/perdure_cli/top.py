"""What `top` shows: task queues, circuit breakers, dead letters, and jobs that go on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from perdure_api import names
from perdure_cli import table
from perdure_cli.exposition import Sample, samples
from perdure_cli.job import Job

QUEUE_COLUMNS: Final = ("QUEUE", "WAITING", "RUNNING", "ASKED BY")
BREAKER_COLUMNS: Final = ("BREAKER", "OPEN", "HALF-OPEN", "CLOSED")
_UNKNOWN: Final = "?"


@dataclass(frozen=True)
class Waiting:
    """What Temporal tells of a task queue."""

    tasks: int
    askers: int
    """Workers that asked for tasks lately."""


@dataclass(frozen=True)
class Told:
    """What all workers tell together."""

    workers: int = 0
    """How many of them told anything."""
    slots: dict[str, int] = field(default_factory=dict)
    """By task queue: how many activities all of them run at a time at most."""
    used: dict[str, int] = field(default_factory=dict)
    """By task queue: how many they run now."""
    breakers: dict[str, Counter[str]] = field(default_factory=dict)
    """By type of activity: in how many workers its breaker is in which state."""
    dead_letters: dict[str, int] = field(default_factory=dict)
    """By workflow."""

    @property
    def queues(self) -> list[str]:
        """The task queues that there are to ask Temporal about."""
        guarded = [names.guarded_queue(activity) for activity in sorted(self.breakers)]
        return list(dict.fromkeys([names.TASK_QUEUE_CPU, *self.used, names.TASK_QUEUE_WATCH, *guarded]))


@dataclass(frozen=True)
class Picture:
    """How everything is at one moment. None: not known."""

    told: Told | None = None
    waiting: dict[str, Waiting] | None = None
    jobs: Sequence[Job] | None = None
    problems: Sequence[str] = ()
    """Why something is not."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all is known."""
        return self.told is None and self.waiting is None and self.jobs is None


def told_by(pages: Iterable[str]) -> Told:
    """What the pages of metrics of all workers say together."""
    slots, used = Counter[str](), Counter[str]()
    breakers: dict[str, Counter[str]] = {}
    dead_letters: dict[str, int] = {}
    workers = 0
    for page in pages:
        workers += 1
        for sample in samples(page):
            match sample:
                case Sample("perdure_worker_slots", {"queue": queue}, value):
                    slots[queue] += int(value)
                case Sample("perdure_worker_slots_used", {"queue": queue}, value):
                    used[queue] += int(value)
                case Sample("perdure_breaker_state", {"activity": activity, "state": state}, value):
                    breakers.setdefault(activity, Counter())[state] += int(value)
                case Sample("perdure_dead_letters", {"workflow": workflow}, value):
                    # Each tells all of them.
                    dead_letters[workflow] = max(dead_letters.get(workflow, 0), int(value))
                case _:
                    continue
    return Told(workers, dict(slots), dict(used), breakers, dead_letters)


def view(picture: Picture, now: datetime) -> RenderableType:
    """All of it, one table below the other."""
    parts: list[RenderableType] = [queue_table(picture)]
    if picture.told and picture.told.breakers:
        parts += ["", breaker_table(picture.told)]
    if picture.told and (letters := _dead_letters(picture.told)):
        parts += ["", Text(letters, style="red")]
    if picture.jobs is not None:
        going_on = [job for job in picture.jobs if job.succeeded is None]
        parts += ["", table.job_table(going_on, now, with_namespace=True) if going_on else "No job is going on."]
    return Group(*parts)


def queue_table(picture: Picture) -> Table:
    """One row for each task queue."""
    told, waiting = picture.told, picture.waiting
    shown = _table(QUEUE_COLUMNS)
    for queue in (told or Told()).queues:
        there = waiting.get(queue) if waiting is not None else None
        shown.add_row(
            queue,
            str(there.tasks) if there else _UNKNOWN,
            _running(told, queue),
            str(there.askers) if there else _UNKNOWN,
        )
    return shown


def breaker_table(told: Told) -> Table:
    """One row for each type of activity that has a breaker: in how many workers it is how."""
    shown = _table(BREAKER_COLUMNS)
    for activity, states in sorted(told.breakers.items()):
        is_open = states["open"] or states["half-open"]
        cells = (str(states[state]) for state in ("open", "half-open", "closed"))
        shown.add_row(activity, *cells, style="red" if is_open else "")
    return shown


def _running(told: Told | None, queue: str) -> str:
    if told is None:
        return _UNKNOWN
    used = told.used.get(queue)
    if used is None:
        return ""  # monitors, which nobody counts, and activities that count as the pool's
    slots = told.slots.get(queue)
    return f"{used} of {slots}" if slots else str(used)


def _dead_letters(told: Told) -> str:
    waiting = [f"{count} of {workflow}" for workflow, count in sorted(told.dead_letters.items()) if count]
    return f"Dead letters: {', '.join(waiting)}; `perdure dead-letters list` shows them." if waiting else ""


def _table(columns: Sequence[str]) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(column, no_wrap=True)
    return shown
