from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

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
    ],
    ids=["unseen", "waiting", "running", "running, nothing told yet", "no end known", "retrying"],
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


@pytest.mark.parametrize(
    ("status", "filled", "says"),
    [
        (documents.RUNNING, 20, "step 150 of 300"),
        (documents.WAITING, 0, "Temporal at temporal:7233 cannot be reached"),
    ],
    ids=["half done", "not begun"],
)
def test_live_view(status: dict[str, Any], filled: int, says: str) -> None:
    console = Console(file=StringIO(), width=200, force_terminal=True, color_system="truecolor")
    with console.capture() as capture:
        console.print(bar.live_view(read_job(documents.document(status))))

    assert says in capture.get()
    done = capture.get().split("━" * 40)[0] if filled == 0 else capture.get()
    assert "━" * filled in done
