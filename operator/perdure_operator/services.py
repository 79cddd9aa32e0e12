"""What looking after TrainingJobs takes, made in one place and passed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from perdure_operator.metrics import Metrics
from perdure_operator.objects import TrainingJobs
from perdure_operator.queue import ReconcileQueue
from perdure_operator.tracker import Tracker
from perdure_operator.turns import Turns
from perdure_operator.workflows import Workflows


@dataclass(frozen=True)
class Patience:
    """How long is waited before something counts as wrong, in seconds."""

    lost_seconds: float = 15.0
    """A workflow may close a moment before its last status arrives here."""
    slow_end_seconds: float = 60.0
    """A deleted object's workflow that has not ended by then is worth an Event."""
    namespace_seconds: float = 10.0
    """A namespace that is being deleted is held up no longer."""


@dataclass(frozen=True)
class Services:
    """What a reconciler works with."""

    objects: TrainingJobs
    workflows: Workflows
    tracker: Tracker
    queue: ReconcileQueue
    turns: Turns
    metrics: Metrics
    temporal_address: str
    """For people, in messages."""
    patience: Patience = Patience()
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
