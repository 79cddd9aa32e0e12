from __future__ import annotations

import re
from io import StringIO
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from perdure_api.status import UNSEEN
from perdure_cli import bar
from perdure_cli.job import read_job
from tests.cli import documents


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (UNSEEN, "Pending"),
        (documents.WAITING, "Pending · Temporal at temporal:7233 cannot be reached"),
        (
            documents.RUNNING,
            "Running · 50 % · step 150 of 300 · loss 2.314 · 1,234 tokens/s · 2 min 5 s left · attempt 2",
        ),
        ({**documents.RUNNING, "progress": None}, "Running · attempt 2"),
        ({**documents.RUNNING, "progress": {"step": 1500}}, "Running · step 1,500 · attempt 2"),
        (
            documents.RETRYING,
            "Retrying · attempt 1: the container used more than its 16Gi; the next one starts in 10 s",
        ),
        (
            documents.QUEUED,
            "Queued · waiting for its turn: number 3 in line; at most 4 run at a time (limits.maxConcurrentJobs)",
        ),
    ],
    ids=["unseen", "waiting", "running", "running, nothing told yet", "no end known", "retrying", "in line"],
)
def test_plain_line(status: dict[str, Any], expected: str) -> None:
    assert bar.plain_line(read_job(documents.document(status))) == expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (
            documents.SUCCEEDED,
            "Succeeded after 8 min in 2 attempts. Adapter: s3://runs/adapter. Held-out loss 3.2 → 2.75 (14 % lower).",
        ),
        (
            {**documents.SUCCEEDED, "result": None, "attemptCounters": {"started": 1}},
            "Succeeded after 8 min in 1 attempt.",
        ),
        (
            {**documents.SUCCEEDED, "result": {"metrics": {"eval_loss": 2.75}}},
            "Succeeded after 8 min in 2 attempts. Held-out loss 2.75.",
        ),
        (
            {**documents.SUCCEEDED, "result": {"metrics": {"eval_loss": 4}, "baseMetrics": {"eval_loss": 3.2}}},
            "Succeeded after 8 min in 2 attempts. Held-out loss 3.2 → 4 (25 % higher).",
        ),
        (
            documents.FAILED,
            'Failed after 28 s in 1 attempt: DatasetBroken: s3://data/train.jsonl, line 17: field "text" is missing',
        ),
    ],
    ids=["with an adapter", "own trainer", "no loss before", "worse than before", "failed"],
)
def test_last_line(status: dict[str, Any], expected: str) -> None:
    assert bar.last_line(read_job(documents.document(status))) == expected


FACTS = "50 % · step 150 of 300 · loss 2.314 · 1,234 tokens/s · 2 min 5 s left · attempt 2"


def shown(status: dict[str, Any], width: int, name: str = "smol") -> list[str]:
    """What a terminal of a width shows."""
    document = documents.document(status)
    document["metadata"]["name"] = name
    console = Console(file=StringIO(), width=width, force_terminal=True, color_system="truecolor")
    with console.capture() as capture:
        console.print(bar.LiveView(read_job(document)))
    return [line.rstrip() for line in Text.from_ansi(capture.get()).plain.splitlines()]


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (140, [f"smol Running {'━' * 40} {FACTS}"]),
        (110, [f"smol Running {'━' * 15} {FACTS}"]),
        (
            80,
            [
                f"smol Running {'━' * 40}",
                "  50 % · step 150 of 300 · loss 2.314 · 1,234 tokens/s · 2 min 5 s left",
                "  attempt 2",
            ],
        ),
        (
            40,
            [
                f"smol Running {'━' * 27}",
                "  50 % · step 150 of 300 · loss 2.314",
                "  1,234 tokens/s · 2 min 5 s left",
                "  attempt 2",
            ],
        ),
    ],
    ids=str,
)
def test_the_live_view_fits_any_terminal_and_breaks_no_fact_in_two(width: int, expected: list[str]) -> None:
    lines = shown(documents.RUNNING, width)

    assert [re.sub("[╸╺]", "━", line) for line in lines] == expected


def test_the_live_view_of_a_long_name_stays_within_the_terminal() -> None:
    lines = shown(documents.RUNNING, 60, name="n" * 253)

    assert "…" in lines[0]
    assert max(map(len, lines)) <= 60


def test_the_live_view_says_below_the_bar_what_is_waited_for() -> None:
    bar_line, *message = shown(documents.WAITING, 30)

    assert bar_line.startswith("smol Pending")
    assert message == ["  Temporal at temporal:7233", "  cannot be reached"]


def test_the_bar_is_filled_as_far_as_training_is() -> None:
    console = Console(file=StringIO(), width=200, force_terminal=True, color_system="truecolor")
    with console.capture() as capture:
        console.print(bar.LiveView(read_job(documents.document(documents.RUNNING))))

    assert "━" * 20 in capture.get()
    assert "━" * 21 not in capture.get()
