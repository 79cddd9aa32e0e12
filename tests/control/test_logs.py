"""What stands in the logs of operator and workers."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from typing import Any

import pytest
from kopf._cogs.clients import api

RETRIED = "Request attempt 1/3 failed; will retry: GET / -> ClientConnectorError()"


def logged(*statements: str, level: str = "info") -> list[dict[str, Any]]:
    """The lines that a process writes, which was told to log as our components do."""
    program = "\n".join(
        [
            "import logging, structlog",
            "from perdure_control.logs import configure_logs",
            f"configure_logs({level!r})",
            *statements,
        ]
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_our_events_and_those_of_libraries_are_json_alike() -> None:
    ours, theirs = logged(
        "structlog.get_logger().info('job_created', name='a')",
        "logging.getLogger('kopf').warning('slow: %s', 3)",
    )

    assert (ours["event"], ours["level"], ours["name"]) == ("job_created", "info", "a")
    assert (theirs["event"], theirs["level"], theirs["logger"]) == ("slow: 3", "warning", "kopf")
    assert ours.keys() >= {"timestamp"} <= theirs.keys()


@pytest.mark.parametrize(
    ("event", "level"), [(RETRIED, "warning"), (RETRIED.replace("will retry", "gave up"), "error")]
)
def test_a_request_that_is_tried_again_has_not_failed_yet(event: str, level: str) -> None:
    (line,) = logged(f"logging.getLogger('kopf').error({event!r})")

    assert (line["level"], line["event"]) == (level, event)


def test_kopf_still_says_it_in_these_words() -> None:
    assert "failed; will retry: " in inspect.getsource(api)


def test_what_is_below_the_level_is_not_written() -> None:
    assert logged("structlog.get_logger().info('a')", "logging.getLogger('b').info('b')", level="warning") == []


@pytest.mark.parametrize("log", ["structlog.get_logger()", "logging.getLogger('temporalio')"])
def test_a_traceback_names_places_and_never_shows_values(log: str) -> None:
    (line,) = logged(
        "def send(token):",
        "    raise RuntimeError('the server said no')",
        "try:",
        "    send('bearer ' + 'secret' * 3)",
        "except RuntimeError:",
        f"    {log}.exception('request_failed')",
    )

    (exception,) = line["exception"]
    assert (exception["exc_value"], exception["frames"][-1]["name"]) == ("the server said no", "send")
    assert "secretsecret" not in json.dumps(line)
