from __future__ import annotations

import errno
import io
import json

import pytest
import structlog

from perdure_api.pod import TerminationMessage
from perdure_trainer.console import ProgressLine, configure, progress_line, say
from tests.trainer.test_progress import step_report


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_pod_logs_events_as_json_with_their_context() -> None:
    stream = io.StringIO()
    configure(stream, {"job": "j", "attempt": 3})
    structlog.get_logger().info("checkpoint_committed", step=5)
    logged = json.loads(stream.getvalue())
    assert logged.pop("timestamp").endswith("Z")
    assert logged == {"event": "checkpoint_committed", "level": "info", "step": 5, "job": "j", "attempt": 3}
    structlog.reset_defaults()


def test_a_terminal_shows_one_line_that_stands_still() -> None:
    stream = Terminal()
    line = ProgressLine(stream)
    line.show(step_report(10), 300)
    line.show(step_report(40), 0)
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().count("\r") == 2


def test_an_event_does_not_stand_behind_the_line() -> None:
    stream = Terminal()
    configure(stream, {})
    ProgressLine(stream).show(step_report(10), 300)
    structlog.get_logger().info("checkpoint_committed")
    line, event = stream.getvalue().rsplit("\r\x1b[2K", 1)
    assert ("tokens/s" in line, "checkpoint_committed" in event, "tokens/s" in event) == (True, True, False)
    structlog.reset_defaults()


def test_a_narrow_terminal_gets_a_shorter_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    stream = Terminal()
    ProgressLine(stream).show(step_report(10), 300)
    assert len(stream.getvalue().removeprefix("\r\x1b[2K")) == 39


def test_a_terminal_without_blocks_gets_plain_characters() -> None:
    buffer = io.BytesIO()
    stream = io.TextIOWrapper(buffer, encoding="ascii")
    stream.isatty = lambda: True  # type: ignore[method-assign]
    ProgressLine(stream).show(step_report(10), 300)
    assert b"######.................. 10/40" in buffer.getvalue()


def test_a_terminal_that_is_gone_does_not_end_training() -> None:
    class Gone(Terminal):
        def flush(self) -> None:
            raise OSError(errno.EIO, "Input/output error")

    line = ProgressLine(Gone())
    line.show(step_report(10), 300)
    assert not line.shown


def test_people_are_told_the_end_in_a_sentence() -> None:
    words = TerminationMessage(message="finished after 3 steps", result_uri="file:///out/result.json")
    terminal, pod = Terminal(), io.StringIO()
    say(terminal, words)
    say(pod, words)
    assert (terminal.getvalue(), pod.getvalue()) == ("\nfinished after 3 steps\nfile:///out/result.json\n", "")


def test_a_pod_gets_no_progress_line() -> None:
    stream = io.StringIO()
    ProgressLine(stream).show(step_report(10), 300)
    assert stream.getvalue() == ""


def test_the_line_says_how_far_and_how_well() -> None:
    assert progress_line(step_report(10), 305) == (
        "██████░░░░░░░░░░░░░░░░░░ 10/40  loss 2.5000  lr 1.00e-04  123 tokens/s  5:05 left"
    )
    assert progress_line(step_report(10), 7265).endswith("  2:01:05 left")
