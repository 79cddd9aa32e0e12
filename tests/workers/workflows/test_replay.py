"""Workflows outlive releases: what a released version began, this one must be able to carry on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import pytest
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from perdure_workers.process import VERSIONED_WORKFLOWS, WORKFLOWS, sandbox
from tests.workers.workflows.courses import courses
from tests.workers.workflows.record import HISTORIES, scenarios

RECORDED = {f"{path.parent.name}/{path.stem}": path.read_text() for path in sorted(HISTORIES.glob("*/*.json"))}


@pytest.mark.parametrize("workflows", [WORKFLOWS, VERSIONED_WORKFLOWS], ids=["without versions", "with versions"])
@pytest.mark.parametrize("name", RECORDED)
async def test_a_recorded_history_replays(name: str, workflows: Sequence[type]) -> None:
    replayer = Replayer(workflows=workflows, workflow_runner=sandbox(), data_converter=pydantic_data_converter)

    await replayer.replay_workflow(WorkflowHistory.from_json(name, RECORDED[name]))


def test_every_release_has_every_scenario_of_its_time() -> None:
    assert RECORDED, "no histories; record some: make histories VERSION=…"
    newest = newest_of({path.name for path in HISTORIES.iterdir()})

    assert {path.stem for path in (HISTORIES / newest).iterdir()} >= {*scenarios(), *courses()}


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda workflow: workflow.__name__)
def test_every_workflow_has_a_recorded_history(workflow: type) -> None:
    begun = {_begun(history) for history in RECORDED.values()}

    assert workflow.__name__ in begun, "add a course of it to courses.py, and record it: make histories VERSION=…"


@pytest.mark.parametrize(
    ("versions", "newest"),
    [({"0.9.0", "0.10.0"}, "0.10.0"), ({"1.0.0", "0.10.0"}, "1.0.0")],
    ids=["ten comes after nine", "the first number counts first"],
)
def test_the_newest_release_is_told_by_its_numbers(versions: set[str], newest: str) -> None:
    assert newest_of(versions) == newest


def newest_of(versions: Iterable[str]) -> str:
    return max(versions, key=lambda version: [int(number) for number in version.split(".")])


def _begun(history: str) -> str:
    """Type of the workflow of a history."""
    started = json.loads(history)["events"][0]["workflowExecutionStartedEventAttributes"]
    return str(started["workflowType"]["name"])
