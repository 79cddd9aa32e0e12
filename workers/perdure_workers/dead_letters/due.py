"""What becomes of an entry of the list."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from temporalio.client import WorkflowExecutionStatus

from perdure_api.dead_letter import Retried
from perdure_control.factory.letters import Entry


@dataclass(frozen=True)
class Leave:
    """An entry leaves the list."""

    why: str


@dataclass(frozen=True)
class Tell:
    """An entry says that its work is being tried again, or (None) is no more."""

    retried: Retried | None


@dataclass(frozen=True)
class Run:
    """The newest run of a workflow's id."""

    run_id: str
    started: datetime
    status: WorkflowExecutionStatus


def due(entry: Entry, newest: Run | None, on_the_list: frozenset[str]) -> Leave | Tell | None:
    """What becomes of an entry, whoever started its work again, and how.

    Args:
        entry: The entry.
        newest: The newest run of its workflow's id; None: Temporal knows none any more.
        on_the_list: Runs that have an entry.
    """
    if newest is None or newest.run_id == entry.letter.run_id or newest.started < entry.letter.failed_at:
        return None
    match newest.status:
        case WorkflowExecutionStatus.RUNNING:
            return None if entry.retried else Tell(Retried(run_id=newest.run_id, at=newest.started))
        case WorkflowExecutionStatus.COMPLETED:
            return Leave(f"run {newest.run_id} of it has completed")
        case WorkflowExecutionStatus.FAILED | WorkflowExecutionStatus.TIMED_OUT:
            return Leave(f"run {newest.run_id} of it has failed too") if newest.run_id in on_the_list else None
        case WorkflowExecutionStatus.CANCELED | WorkflowExecutionStatus.TERMINATED:
            return Tell(None) if entry.retried else None
        case WorkflowExecutionStatus.CONTINUED_AS_NEW:
            return None
