"""What `watch` shows: a line, or a live bar, and the last line."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from perdure_cli import phrases
from perdure_cli.job import Job

_BAR_WIDTH = 40


def facts(job: Job) -> list[str]:
    """What there is to say of a job's progress, the most important first."""
    said = []
    progress = job.status.progress
    if progress is not None and job.running:
        if progress.percent is not None:
            said.append(f"{progress.percent} %")
        if progress.step is not None:
            total = f" of {phrases.number(progress.total_steps)}" if progress.total_steps else ""
            said.append(f"step {phrases.number(progress.step)}{total}")
        if job.loss is not None:
            said.append(f"loss {phrases.number(job.loss)}")
        if progress.tokens_per_second is not None:
            said.append(f"{phrases.number(round(progress.tokens_per_second))} tokens/s")
        if progress.eta_seconds is not None:
            said.append(f"{phrases.duration(progress.eta_seconds)} left")
    if job.attempts_started:
        said.append(f"attempt {job.attempts_started}")
    return said


def plain_line(job: Job) -> str:
    """One line, for where there is no terminal: `Running · 40 % · step 120 of 300 · loss 2.31 · …`."""
    message = "" if job.running else job.status.message or ""
    # A message that speaks of an attempt says which.
    said = [] if message.startswith("attempt ") else facts(job)
    return " · ".join([job.phase, *said, *([message] if message else [])])


def live_view(job: Job) -> RenderableType:
    """The bar and what there is to say, for a terminal."""
    progress = job.status.progress
    completed = progress.percent if progress and progress.percent is not None else None
    grid = Table.grid(padding=(0, 1))
    grid.add_row(
        Text(job.name, style="bold"),
        Text(job.phase),
        ProgressBar(total=100, completed=completed or 0, width=_BAR_WIDTH, pulse=completed is None and job.running),
        Text(" · ".join(facts(job))),
    )
    if job.running or not job.status.message:
        return grid
    return Group(grid, Text(f"  {job.status.message}", style="dim"))


def last_line(job: Job) -> str:
    """How a finished job ended: the adapter and what it is worth, or why there is none."""
    attempts = phrases.counted(max(job.attempts_started, 1), "attempt")
    took = phrases.duration((job.ended - job.began).total_seconds()) if job.ended else "some time"
    if not job.succeeded:
        return f"Failed after {took} in {attempts}: {job.status.reason}: {job.status.message}"
    parts = [f"Succeeded after {took} in {attempts}."]
    if job.status.result and job.status.result.adapter_uri:
        parts.append(f"Adapter: {job.status.result.adapter_uri}.")
    improvement = loss_change(job)
    if improvement:
        parts.append(f"Held-out loss {improvement}.")
    return " ".join(parts)


def loss_change(job: Job) -> str | None:
    """`3.214 → 2.75 (14 % lower)`: the held-out loss of the base model, and with the adapter."""
    result = job.status.result
    if result is None:
        return None
    before, after = result.base_metrics.get("eval_loss"), result.metrics.get("eval_loss")
    if after is None:
        return None
    if not before:
        return phrases.number(after)
    change = (after - before) / before * 100
    word = "lower" if change <= 0 else "higher"
    return f"{phrases.number(before)} → {phrases.number(after)} ({abs(change):.0f} % {word})"
