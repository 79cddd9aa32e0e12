from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from perdure_cli import table
from perdure_cli.job import read_job
from tests.cli import documents


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({}, ("smol", "Pending", "", "", "", "", "0", "10m", "")),
        (
            documents.RUNNING,
            ("smol", "Running", "50 %", "150/300", "2.314", "2 min 5 s", "2", "10m", "PodRunning"),
        ),
        (documents.SUCCEEDED, ("smol", "Succeeded", "50 %", "150/300", "2.314", "", "2", "10m", "Completed")),
        (documents.FAILED, ("smol", "Failed", "", "", "", "", "0", "10m", "DatasetBroken")),
        (documents.QUEUED, ("smol", "Queued", "no. 3 in line", "", "", "", "0", "10m", "Queued")),
    ],
    ids=["new", "running", "succeeded", "failed", "waits for its turn"],
)
def test_row(status: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert table.row(read_job(documents.document(status)), documents.NOW) == expected


def test_jobs_are_in_the_order_of_namespace_and_age() -> None:
    jobs = [
        read_job(documents.document(name="newer", creationTimestamp="2026-11-22T11:59:00Z")),
        read_job(documents.document(name="older")),
        read_job(documents.document(name="elsewhere", namespace="a")),
    ]
    console = Console(file=StringIO(), width=200)

    with console.capture() as capture:
        console.print(table.job_table(jobs, documents.NOW, with_namespace=True))

    lines = [line.split() for line in capture.get().splitlines()]
    assert [line[:2] for line in lines] == [["NAMESPACE", "NAME"], ["a", "elsewhere"], ["ml", "older"], ["ml", "newer"]]
