"""What `logs` says between the logs, and which pods it reads, as pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from perdure_api import names
from perdure_api.pod import CONTAINER_NAME
from perdure_cli.job import Job


@dataclass(frozen=True)
class Pod:
    """A pod of an attempt."""

    name: str
    attempt: int
    node: str | None
    began: bool
    """Whether its container has begun: before that there are no logs."""
    ended: bool
    waits_for: str | None
    """Why its container has not begun, in the kubelet's words."""


def read_pod(document: dict[str, Any]) -> Pod:
    """The pod of an object as the API server sends it."""
    metadata, status = document["metadata"], document.get("status") or {}
    containers = status.get("containerStatuses") or []
    state = next((each.get("state") or {} for each in containers if each["name"] == CONTAINER_NAME), {})
    waiting = state.get("waiting") or {}
    return Pod(
        name=metadata["name"],
        attempt=int((metadata.get("labels") or {}).get(names.LABEL_ATTEMPT, 0)),
        node=(document.get("spec") or {}).get("nodeName"),
        began="running" in state or "terminated" in state,
        ended="terminated" in state or status.get("phase") in {"Succeeded", "Failed"},
        waits_for=waiting.get("message") or waiting.get("reason") or _unscheduled(status),
    )


def in_order(pods: list[Pod]) -> list[Pod]:
    """By attempt, and by name within one."""
    return sorted(pods, key=lambda pod: (pod.attempt, pod.name))


def begins(pod: Pod) -> str:
    """The line before a pod's logs."""
    where = f" on node {pod.node}" if pod.node else ""
    return f"── attempt {pod.attempt}: pod {pod.name}{where}"


def ends(job: Job, attempt: int) -> str:
    """The line after an attempt's logs."""
    status = next((each for each in job.status.attempts if each.number == attempt), None)
    if status is None or status.end_time is None:
        return f"── attempt {attempt} ended"
    code = f" (exit code {status.exit_code})" if status.exit_code is not None else ""
    why = f": {status.message}" if status.message else ""
    return f"── attempt {attempt} ended: {status.reason}{code}{why}"


def waits(job: Job, pod: Pod | None) -> str:
    """Why there is nothing to read yet."""
    if pod is not None and pod.waits_for:
        return f"── attempt {pod.attempt} waits: {pod.waits_for}"
    return f"── {job.phase}: {job.status.message or 'no pod yet'}"


def missing(job: Job, pods: list[Pod]) -> list[str]:
    """A line for each attempt whose pod is gone."""
    there = {pod.attempt for pod in pods}
    gone = [each.number for each in job.status.attempts if each.number not in there and each.end_time is not None]
    return [f"── attempt {number}: its pod is gone, and its logs with it" for number in gone]


def split_stamp(line: str) -> tuple[str, str]:
    """The kubelet's time stamp of a log line, and the line itself."""
    stamp, _, text = line.partition(" ")
    return stamp, text


def _unscheduled(status: dict[str, Any]) -> str | None:
    return next(
        (
            each.get("message")
            for each in status.get("conditions") or []
            if each.get("type") == "PodScheduled" and each.get("status") == "False"
        ),
        None,
    )
