"""Commands that change what becomes of a training job."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Final

import click

from perdure_api import names
from perdure_api.conditions import Phase, Reason
from perdure_cli.cluster import Cluster
from perdure_cli.errors import CliError
from perdure_cli.job import Job
from perdure_cli.story import Event

REASON_LIMIT: Final = 200
_POLL_SECONDS: Final = 0.5


def suspend(cluster: Cluster, name: str) -> str:
    """Has a job save and wait; what to tell of it.

    Raises:
        CliError: there is no such job, it is finished, or the cluster refuses.
    """
    job = _unfinished(cluster, name, "nothing of it runs any more")
    if job.spec.get("suspend") is True:
        return f"{name} is suspended already; `perdure resume {name}` lets it go on."
    cluster.change(job, {"spec": {"suspend": True}})
    return f"{name} saves and waits; `perdure resume {name}` lets it go on."


def resume(cluster: Cluster, name: str) -> str:
    """Has a suspended job go on; what to tell of it.

    Raises:
        CliError: there is no such job, it is finished, or the cluster refuses.
    """
    job = _unfinished(cluster, name, "a finished job never starts again")
    if job.spec.get("suspend") is not True:
        return f"{name} is not suspended; `perdure watch {name}` shows how far it is."
    cluster.change(job, {"spec": {"suspend": False}})
    return f"{name} goes on; `perdure watch {name}` shows how."


def cancel(cluster: Cluster, name: str) -> str:
    """Ends a job for good; what to tell of it.

    Raises:
        CliError: there is no such job, it is finished, or the cluster refuses.
    """
    job = _unfinished(cluster, name, "there is nothing to cancel")
    cluster.change(job, {"metadata": {"annotations": {names.ANNOTATION_CANCEL: "true"}}})
    return f"{name} is being cancelled; what it has saved stays."


def checkpoint(cluster: Cluster, name: str, reason: str, timeout_seconds: float) -> str:
    """Has a job save now, and waits until it has; what to tell of it.

    Raises:
        CliError: there is no such job, it is finished or waits for its turn, no trainer of it runs, it has not saved in
            time, or the cluster refuses.
    """
    job = _unfinished(cluster, name, "it saves nothing any more")
    if job.phase == Phase.QUEUED:
        raise CliError(
            f"{name} has no trainer that runs now, and what was saved before stays: it is {job.status.message}"
        )
    # Told apart from every other request by its time, which people may want to know too.
    asked = f"{reason[:REASON_LIMIT]} ({datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f} UTC)"
    cluster.change(job, {"metadata": {"annotations": {names.ANNOTATION_CHECKPOINT: asked}}})
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        answers = [event for event in cluster.events(job) if asked in event.message]
        if saved := _of(answers, Reason.CHECKPOINT_SAVED):
            return f"{name}: {saved.message}."
        if (heard := _of(answers, Reason.CHECKPOINT_ASKED)) and heard.type == "Warning":
            raise CliError(f"{name}: {heard.message}")
        time.sleep(_POLL_SECONDS)
    raise CliError(
        f"{name} was asked to save, but has not told within {timeout_seconds:.0f} s that it did: the built-in trainer "
        f"saves after the step that it works on, and a trainer of your own may not know how. "
        f"`perdure describe {name}` shows its newest checkpoint"
    )


def _of(events: list[Event], reason: Reason) -> Event | None:
    return next((event for event in events if event.reason == reason), None)


def _unfinished(cluster: Cluster, name: str, otherwise: str) -> Job:
    job = cluster.job(name)
    if job.succeeded is not None:
        raise CliError(f"{name} is finished ({job.phase}): {otherwise}")
    return job


def sure(name: str) -> None:
    """Asks a person; ends the command when the answer is no."""
    click.confirm(f"Cancel {name} for good? It cannot be resumed.", abort=True)
