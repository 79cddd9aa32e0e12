"""Workflows of other packages, as far as this process can carry them out beside its own.

One that cannot be is told and passed over: a worker that refused to start for it would stop every training job.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from temporalio import workflow
from temporalio.worker import WorkflowRunner

from perdure_api import names
from perdure_control.factory.breaker import Breaker
from perdure_control.factory.entry import WorkflowEntry, activity_type
from perdure_control.factory.registry import Registry
from perdure_workers.messages import ActivityName

log = structlog.get_logger(__name__)

_OURS: Final = frozenset(str(name) for name in ActivityName)


@dataclass(frozen=True)
class Extensions:
    """What a worker registers for other packages."""

    workflows: tuple[type[Any], ...] = ()
    activities: tuple[Callable[..., Any], ...] = ()
    breakers: Mapping[str, Breaker] = field(default_factory=dict)
    """By type of activity."""
    problems: tuple[str, ...] = ()
    """What was passed over, each with the reason."""


def usable(registry: Registry, runner: WorkflowRunner) -> Extensions:
    """What a registry brings for the CPU pool's queue. Entries of other queues are for workers of their owners.

    To be called where an event loop runs: the sandbox asks for it.

    Args:
        registry: What is installed.
        runner: That workflows will run in: a class that it does not take would keep the whole worker from starting.
    """
    workflows: list[type[Any]] = []
    activities: dict[str, Callable[..., Any]] = {}
    breakers: dict[str, Breaker | None] = {}
    problems = list(registry.problems)
    for entry in registry.brought():
        if entry.queue != names.TASK_QUEUE_CPU or isinstance(entry.workflow, str):
            continue
        problem = _runs_not(entry.workflow, runner) or _clash(entry, activities, breakers)
        if problem:
            problems.append(f"{entry.name} of {registry.origins[entry.name]}: {problem}")
            continue
        workflows.append(entry.workflow)
        activities |= {activity_type(function): function for function in entry.activities}
        breakers |= {activity_type(function): entry.breaker for function in entry.activities}
    guarded = {name: breaker for name, breaker in breakers.items() if breaker}
    return Extensions(tuple(workflows), tuple(activities.values()), guarded, tuple(problems))


def tell(extensions: Extensions) -> None:
    """Says in the log what was found."""
    for problem in extensions.problems:
        log.error("workflow_passed_over", problem=problem)
    if extensions.workflows:
        log.info("workflows_added", workflows=[each.__name__ for each in extensions.workflows])


def _runs_not(class_: type[Any], runner: WorkflowRunner) -> str | None:
    """Why a workflow cannot run; None: it can, as far as importing it tells."""
    try:
        runner.prepare_workflow(workflow._Definition.must_from_class(class_))  # noqa: SLF001 - as the worker itself does
    except Exception as error:  # noqa: BLE001 - code of others
        return f"the workflow sandbox does not take it: {type(error).__name__}: {error}"
    return None


def _clash(
    entry: WorkflowEntry[Any], taken: Mapping[str, Callable[..., Any]], breakers: Mapping[str, Breaker | None]
) -> str | None:
    """Why its activities cannot be registered beside the others'; None: they can. Entries may share an activity."""
    for function in entry.activities:
        name = activity_type(function)
        if name in _OURS:
            return f"its activity {name} has the name of one of Perdure's; rename it"
        if taken.get(name, function) is not function:
            return f"its activity {name} has the name of another workflow's; rename one"
        if breakers.get(name, entry.breaker) != entry.breaker:
            return f"its activity {name} has another breaker in another workflow; give both the same"
    return None
