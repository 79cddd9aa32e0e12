"""Workflows of other packages → what a worker registers beside its own, and what it passes over."""

from __future__ import annotations

import dataclasses
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from temporalio import activity
from temporalio.worker import UnsandboxedWorkflowRunner

from perdure_api import names
from perdure_control.factory import Registry, WorkflowEntry, load_registry
from perdure_control.factory.builtin import BUILTIN
from perdure_control.factory.registry import ENTRY_POINTS
from perdure_workers import extensions
from perdure_workers.main import main
from perdure_workers.process import VERSIONED_WORKFLOWS, WORKFLOWS, sandbox
from tests.control.factory.unsafe import UNSAFE, UnsafeWorkflow
from tests.control.factory.workflows import GREET, ONCE, Greeting, GreetWorkflow, greet


def registry(*entries: WorkflowEntry[Any]) -> Registry:
    return Registry({each.name: each for each in entries}, {each.name: f"package-{each.name}" for each in entries})


async def test_classes_and_activities_are_registered() -> None:
    found = extensions.usable(registry(GREET), sandbox())

    assert found == extensions.Extensions(workflows=(GreetWorkflow,), activities=(greet,))


async def test_perdures_own_are_not_registered_twice() -> None:
    assert extensions.usable(load_registry([]), sandbox()) == extensions.Extensions()


async def test_those_of_other_queues_are_left_to_their_owners_workers() -> None:
    assert extensions.usable(registry(ONCE), sandbox()) == extensions.Extensions()


async def test_what_the_sandbox_does_not_take_is_told_and_the_others_run() -> None:
    """Temporal's worker would else not start at all."""
    found = extensions.usable(registry(GREET, UNSAFE), sandbox())

    assert found.workflows == (GreetWorkflow,)
    (problem,) = found.problems
    assert problem.startswith("unsafe of package-unsafe: the workflow sandbox does not take it: ")
    assert extensions.usable(registry(UNSAFE), UnsandboxedWorkflowRunner()).workflows == (UnsafeWorkflow,)


@pytest.mark.parametrize(
    ("name", "says"),
    [("publish_status", "the name of one of Perdure's"), ("greet", "the name of another workflow's")],
    ids=["ours", "another's"],
)
async def test_an_activity_of_a_name_that_is_taken_is_told(name: str, says: str) -> None:
    @activity.defn(name=name)
    async def taken(greeting: Greeting) -> None:
        """Nothing."""

    later = dataclasses.replace(GREET, name="later", activities=(taken,))

    found = extensions.usable(registry(GREET, later), sandbox())

    assert found.activities == (greet,)
    assert [says in problem for problem in found.problems] == [True]


async def test_two_workflows_may_share_an_activity() -> None:
    later = dataclasses.replace(GREET, name="later")

    assert extensions.usable(registry(GREET, later), sandbox()).activities == (greet,)


async def test_what_the_registry_passed_over_is_told_too() -> None:
    broken = load_registry([EntryPoint("x", "no_such_package:X", ENTRY_POINTS)])

    assert extensions.usable(broken, sandbox()).problems == broken.problems


@pytest.mark.parametrize("workflows", [WORKFLOWS, VERSIONED_WORKFLOWS], ids=["without versions", "with versions"])
def test_every_workflow_that_perdure_brings_is_one_of_the_workers(workflows: tuple[type, ...]) -> None:
    served = {each.__temporal_workflow_definition.name for each in workflows}  # type: ignore[attr-defined]

    assert {(entry.type, entry.queue) for entry in BUILTIN} <= {(name, names.TASK_QUEUE_CPU) for name in served}


def test_with_two_workflows_of_one_name_no_worker_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which of them would run depends on the order of packages: nobody wants to find that out later."""
    for package in ("one", "two"):
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[perdure.workflows]\ngreet = tests.control.factory.workflows:GREET\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", ["perdure-worker"])

    assert main() == 64

    said = capsys.readouterr().err
    assert said.startswith("perdure-worker: two workflows have the name greet: one of ")
    assert "of one, one of" in said
