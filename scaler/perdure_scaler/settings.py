"""What a scaler is told by its environment."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

from perdure_control.credentials import IN_THE_CLEAR, CredentialFiles
from perdure_control.settings import ANY_PORT, Environment, SettingsError
from perdure_scaler.demand import Queue

_SECONDS: Final = range(5, 3601)
_LABEL_VALUE: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_QUEUES: Final = "PERDURE_SCALER_QUEUES"
_EXAMPLE: Final = '[{"queue": "perdure-cpu"}]'


class TaskType(Enum):
    """What Temporal keeps apart in one task queue."""

    WORKFLOW = "workflow"
    ACTIVITY = "activity"


@dataclass(frozen=True)
class ScaledQueue:
    """A task queue whose demand is told."""

    queue: Queue
    types: tuple[TaskType, ...] = tuple(TaskType)
    """Whose backlogs count."""
    label: str = ""
    """Its name in selectors of metrics; the queue's own where that is a label's value."""
    guarded: tuple[str, ...] = ()
    """Task queues of activities that the same workers do, beside it: their backlogs count with its own."""

    @property
    def labels(self) -> dict[str, str]:
        """By which its metrics are selected."""
        return {"queue": self.label or self.queue.name, "temporal_namespace": self.queue.temporal_namespace}


@dataclass(frozen=True)
class Settings:
    """Read once at start."""

    temporal_address: str
    temporal_namespace: str
    namespace: str
    """The scaler's own, and the workers'."""
    workers: str
    """Label selector of the workers' pods."""
    queues: tuple[ScaledQueue, ...]
    hold_seconds: float = 60.0
    """How long what was read last counts when nothing newer can be read."""
    log_level: str = "info"
    http_port: int = 8080
    """Health and metrics."""
    api_port: int = 8443
    tls_folder: Path | None = None
    """Certificate of the external metrics API; None: it is not served."""
    service: str = ""
    """Name of the Service in front of that API."""
    temporal_credentials: CredentialFiles = IN_THE_CLEAR


def settings_from(environment: Mapping[str, str]) -> Settings:
    """The settings that an environment amounts to.

    Raises:
        SettingsError: a variable is missing or is not what it must be.
    """
    read = Environment(environment, "scaler")
    temporal_namespace = read.text("PERDURE_TEMPORAL_NAMESPACE", "default")
    folder = read.text("PERDURE_SCALER_TLS_DIR")
    return Settings(
        temporal_address=read.required("PERDURE_TEMPORAL_ADDRESS", "host:port of Temporal's frontend"),
        temporal_namespace=temporal_namespace,
        namespace=read.required("PERDURE_NAMESPACE", "the namespace that the scaler runs in"),
        workers=read.required("PERDURE_SCALER_WORKERS", "the label selector of the workers' pods"),
        queues=_queues(read, temporal_namespace),
        hold_seconds=float(read.whole_number("PERDURE_SCALER_HOLD_SECONDS", 60, _SECONDS)),
        log_level=read.log_level(),
        http_port=read.whole_number("PERDURE_HTTP_PORT", 8080, ANY_PORT),
        api_port=read.whole_number("PERDURE_SCALER_API_PORT", 8443, ANY_PORT),
        tls_folder=Path(folder) if folder else None,
        service=read.required("PERDURE_SCALER_SERVICE", "the Service in front of it") if folder else "",
        temporal_credentials=read.temporal_credentials(),
    )


def _queues(read: Environment, temporal_namespace: str) -> tuple[ScaledQueue, ...]:
    expected = f"task queues such as {_EXAMPLE}"
    text = read.required(_QUEUES, expected)
    entries = read.document(_QUEUES, expected)
    if not isinstance(entries, list) or not entries:
        raise SettingsError(f"{_QUEUES} is {text}, expected one task queue or more, such as {_EXAMPLE}")
    queues = tuple(_queue(entry, temporal_namespace) for entry in entries)
    names = [tuple(queue.labels.values()) for queue in queues]
    if len(set(names)) < len(names):
        raise SettingsError(f"{_QUEUES} names a task queue twice, expected each once; remove one, or give it a label")
    return queues


def _queue(entry: Any, temporal_namespace: str) -> ScaledQueue:
    if not isinstance(entry, dict) or not isinstance(entry.get("queue"), str) or not entry["queue"]:
        raise SettingsError(f"{_QUEUES} has the entry {json.dumps(entry)}, expected one such as {_EXAMPLE[1:-1]}")
    if unknown := sorted(entry.keys() - {"queue", "temporalNamespace", "types", "label"}):
        raise SettingsError(
            f"{_QUEUES} has {', '.join(unknown)} in an entry, expected queue, temporalNamespace, types and label"
        )
    queue = Queue(entry.get("temporalNamespace") or temporal_namespace, entry["queue"])
    scaled = ScaledQueue(queue, _types(entry.get("types") or [each.value for each in TaskType]), entry.get("label", ""))
    for name, value in scaled.labels.items():
        if not _LABEL_VALUE.fullmatch(value):
            raise SettingsError(
                f'{_QUEUES}: "{value}" cannot be the {name} in a selector, expected at most 63 letters, digits, "-", '
                f'"_" and "."; give this task queue a label of that form'
            )
    return scaled


def _types(names: Any) -> tuple[TaskType, ...]:
    known = [each.value for each in TaskType]
    if not isinstance(names, list) or not set(names) <= set(known):
        raise SettingsError(f"{_QUEUES} has the types {names}, expected some of {', '.join(known)}")
    return tuple(TaskType(name) for name in dict.fromkeys(names))
