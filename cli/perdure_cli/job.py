"""A TrainingJob as it is read here: leniently, since the cluster may be newer than this command."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from perdure_api.conditions import ConditionStatus, ConditionType, Phase, phase_of
from perdure_api.status import AttemptStatus, TrainingJobStatus
from perdure_cli import phrases


@dataclass(frozen=True)
class Job:
    """One TrainingJob."""

    namespace: str
    name: str
    uid: str
    created: datetime
    deleting: bool
    spec: dict[str, Any]
    """As it is stored: a newer one may have fields that this command does not know."""
    status: TrainingJobStatus

    @property
    def phase(self) -> str:
        """The word that says how it is: what its status says, or what its conditions amount to."""
        if self.deleting:
            return "Deleting"
        return self.status.phase or str(phase_of(self.status.conditions))

    @property
    def succeeded(self) -> bool | None:
        """Whether it succeeded; None while it goes on."""
        condition = self.status.condition(ConditionType.SUCCEEDED)
        if condition is None or condition.status is ConditionStatus.UNKNOWN:
            return None
        return condition.status is ConditionStatus.TRUE

    @property
    def running(self) -> bool:
        """Whether a pod of it runs: none does any more while the result of the last one is waited for."""
        condition = self.status.condition(ConditionType.RUNNING)
        over = condition is not None and condition.status is ConditionStatus.FALSE
        return self.phase == Phase.RUNNING and not over

    @property
    def attempt(self) -> AttemptStatus | None:
        """The newest attempt."""
        return self.status.attempts[-1] if self.status.attempts else None

    @property
    def attempts_started(self) -> int:
        """How many attempts have begun."""
        counters = self.status.attempt_counters
        return counters.started if counters else len(self.status.attempts)

    @property
    def loss(self) -> float | None:
        """The newest training loss."""
        return self.status.progress.metrics.get("loss") if self.status.progress else None

    @property
    def began(self) -> datetime:
        """When work on it began; before that, when it was made."""
        return phrases.moment(self.status.start_time) or self.created

    @property
    def ended(self) -> datetime | None:
        """When it finished."""
        return phrases.moment(self.status.completion_time)


def read_job(document: dict[str, Any]) -> Job:
    """The job of an object as the API server sends it."""
    metadata = document["metadata"]
    return Job(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        created=phrases.moment(metadata.get("creationTimestamp")) or datetime.now(UTC),
        deleting=bool(metadata.get("deletionTimestamp")),
        spec=document.get("spec") or {},
        status=_read_status(document.get("status") or {}),
    )


def _read_status(document: dict[str, Any]) -> TrainingJobStatus:
    known = set(ConditionType)
    conditions = [each for each in document.get("conditions") or [] if each.get("type") in known]
    try:
        return TrainingJobStatus.from_wire({**document, "conditions": conditions})
    except ValidationError:
        # Better the few words that everybody understands than none.
        words = {key: document[key] for key in ("phase", "reason", "message") if isinstance(document.get(key), str)}
        return TrainingJobStatus.from_wire(words)
