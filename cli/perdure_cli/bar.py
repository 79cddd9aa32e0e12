"""What `watch` shows: a line, or a live bar, and the last line."""

from __future__ import annotations

from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from perdure_cli import phrases
from perdure_cli.job import Job

_BAR_WIDTH = 40
_LEAST_BAR_WIDTH = 10
_INDENT = 2
_SEPARATOR = " · "


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
    return _SEPARATOR.join([job.phase, *said, *([message] if message else [])])


@dataclass(frozen=True)
class LiveView:
    """The bar and what there is to say, for a terminal: beside each other where both fit, else one below the other."""

    job: Job

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """One line, or several, that never break a fact in two."""
        width = options.max_width
        said = _SEPARATOR.join(facts(self.job))
        beside = self._bar_width(width - cell_len(said) - 1)
        if beside >= _LEAST_BAR_WIDTH:
            yield self._line(beside, said)
        else:
            yield self._line(max(self._bar_width(width), 1))
            for line in filled_lines(facts(self.job), width - _INDENT):
                yield Padding(Text(line), (0, 0, 0, _INDENT))
        if not self.job.running and self.job.status.message:
            yield Padding(Text(self.job.status.message, style="dim"), (0, 0, 0, _INDENT))

    def _bar_width(self, width: int) -> int:
        return min(_BAR_WIDTH, width - cell_len(f"{self.job.name} {self.job.phase} "))

    def _line(self, bar_width: int, said: str = "") -> RenderableType:
        progress = self.job.status.progress
        percent = progress.percent if progress else None
        cells: list[RenderableType] = [
            Text(self.job.name, style="bold"),
            Text(self.job.phase),
            ProgressBar(total=100, completed=percent or 0, width=bar_width, pulse=percent is None and self.job.running),
            *([Text(said)] if said else []),
        ]
        line = Table.grid(padding=(0, 1))
        for _ in cells:
            line.add_column(no_wrap=True, overflow="ellipsis")
        line.add_row(*cells)
        return line


def filled_lines(said: list[str], width: int) -> list[str]:
    """Facts in as few lines as hold them, none broken in two."""
    lines: list[str] = []
    for fact in said:
        longer = _SEPARATOR.join([*lines[-1:], fact])
        if lines and cell_len(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(fact)
    return lines


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
