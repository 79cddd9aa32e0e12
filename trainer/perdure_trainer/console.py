"""What people see: JSON lines in a pod, one line that stands still on a terminal."""

from __future__ import annotations

import logging
import shutil
import sys
import warnings
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final, TextIO

import structlog

if TYPE_CHECKING:
    from perdure_api.pod import TerminationMessage
    from perdure_trainer.loop import StepReport

QUIET_LIBRARIES: Final = ("transformers", "peft", "huggingface_hub", "accelerate", "torch")
_BAR_CHARACTERS: Final = 24
_FILLED, _EMPTY = "█", "░"
_CLEAR: Final = "\r\x1b[2K"


def configure(stream: TextIO, context: Mapping[str, object]) -> None:
    """Logs events with fields to a stream: for people on a terminal, as JSON with the context elsewhere."""
    people = stream.isatty()

    def with_context(_: object, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        return event if people else {**context, **event}

    structlog.configure(
        processors=[
            with_context,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            *(
                [structlog.dev.ConsoleRenderer(), _in_place_of_a_line]
                if people
                else [structlog.processors.JSONRenderer()]
            ),
        ],
        logger_factory=structlog.PrintLoggerFactory(stream),
    )


def _in_place_of_a_line(_: object, __: str, event: str) -> str:
    """An event is not written behind the line of progress, which comes again with the next step."""
    return f"{_CLEAR}{event}"


def say(stream: TextIO, last_words: TerminationMessage) -> None:
    """Tells people on a terminal how it ended, as a sentence, and where the result is."""
    if stream.isatty():
        result = f"\n{last_words.result_uri}" if last_words.result_uri else ""
        stream.write(f"\n{last_words.message}{result}\n")


def quieten_libraries() -> None:
    """Lets the libraries below only speak of what went wrong: the events are ours."""
    warnings.simplefilter("ignore")
    for name in QUIET_LIBRARIES:
        logging.getLogger(name).setLevel(logging.ERROR)


class ProgressLine:
    """Progress on a terminal, in place; nothing where the stream is none."""

    def __init__(self, stream: TextIO = sys.stderr) -> None:
        self._stream = stream
        self.shown = stream.isatty()

    def show(self, report: StepReport, eta_seconds: int) -> None:
        """Shows one step, in place of the one before."""
        if not self.shown:
            return
        end = "\n" if report.position.step == report.total_steps else ""
        # A line that is wider than the terminal would not stand still.
        line = progress_line(report, eta_seconds)[: shutil.get_terminal_size().columns - 1]
        try:
            self._stream.write(f"{_CLEAR}{_writable(line, self._stream.encoding)}{end}")
            self._stream.flush()
        except OSError:
            self.shown = False  # the terminal is gone; training is not


def _writable(line: str, encoding: str | None) -> str:
    """The line in characters that the terminal has."""
    try:
        line.encode(encoding or "utf-8")
    except UnicodeEncodeError:
        return line.replace(_FILLED, "#").replace(_EMPTY, ".")
    return line


def progress_line(report: StepReport, eta_seconds: int) -> str:
    """One line that says how far training is and how it goes."""
    step, total = report.position.step, report.total_steps
    filled = step * _BAR_CHARACTERS // total
    bar = _FILLED * filled + _EMPTY * (_BAR_CHARACTERS - filled)
    minutes, seconds = divmod(eta_seconds, 60)
    hours, minutes = divmod(minutes, 60)
    left = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
    return (
        f"{bar} {step}/{total}  loss {report.loss:.4f}  lr {report.learning_rate:.2e}  "
        f"{report.labels_per_second:.0f} tokens/s  {left} left"
    )
