"""What `list` shows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.table import Table

from perdure_cli import phrases
from perdure_cli.job import Job

COLUMNS = ("NAME", "PHASE", "PROGRESS", "STEP", "LOSS", "ETA", "ATTEMPTS", "AGE", "REASON")


def row(job: Job, now: datetime) -> tuple[str, ...]:
    """One job, in the order of COLUMNS."""
    progress = job.status.progress
    going_on = job.succeeded is None
    return (
        job.name,
        job.phase,
        _progress(job),
        _steps(job),
        phrases.number(job.loss) if job.loss is not None else "",
        phrases.duration(progress.eta_seconds) if going_on and progress and progress.eta_seconds is not None else "",
        str(job.attempts_started),
        phrases.age((now - job.created).total_seconds()),
        job.status.reason or "",
    )


def job_table(jobs: Sequence[Job], now: datetime, *, with_namespace: bool) -> Table:
    """All jobs, ordered by namespace and age, the newest last."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("NAMESPACE", *COLUMNS) if with_namespace else COLUMNS:
        table.add_column(column, no_wrap=True)
    for job in sorted(jobs, key=lambda job: (job.namespace, job.created, job.name)):
        cells = row(job, now)
        table.add_row(*((job.namespace, *cells) if with_namespace else cells), style=style(job))
    return table


def style(job: Job) -> str:
    """The colour of a job: only of those that are over."""
    return {True: "green", False: "red", None: ""}[job.succeeded]


def _progress(job: Job) -> str:
    if job.status.queue is not None:
        return f"no. {job.status.queue.position} in line"
    progress = job.status.progress
    return f"{progress.percent} %" if progress and progress.percent is not None else ""


def _steps(job: Job) -> str:
    progress = job.status.progress
    if progress is None or progress.step is None:
        return ""
    return f"{progress.step}/{progress.total_steps}" if progress.total_steps else str(progress.step)
