"""Where the attempts of a job are tried, from one to the next."""

from __future__ import annotations

from perdure_api.spec import ResourcesSpec, TrainingJobSpec
from perdure_api.status import AttemptStatus
from perdure_api.workflow import Placement
from perdure_workers.attempts import placement
from perdure_workers.attempts.outcome import Outcome


class Place:
    """The place that is tried now.

    Args:
        spec: What the user asks for.
        now: Where attempts are tried by now.
    """

    def __init__(self, spec: TrainingJobSpec, now: Placement) -> None:
        self._spec = spec
        self._resources = spec.resources or ResourcesSpec()
        self.now = now

    @property
    def spec(self) -> TrainingJobSpec:
        """The spec of an attempt here."""
        return self._spec.model_copy(update={"resources": placement.placed(self._resources, self.now)})

    @property
    def missing(self) -> int:
        """How many nodes an attempt here lacks that are to be asked for meanwhile."""
        return placement.missing(self._resources, self.now)

    @property
    def sentence(self) -> str:
        """What to say of an attempt here; empty where a job wants one node only."""
        return placement.on_how_many(self._resources, self.now)

    @property
    def alternative(self) -> int | None:
        """Which of resources.alternatives it is, from 0; None: the first resources."""
        return self.now.alternative - 1 if self.now.alternative else None

    def recall(self, attempt: AttemptStatus) -> None:
        """Goes to where an attempt was tried."""
        self.now = placement.recalled(self._resources, attempt)

    def fall_back(self, outcome: Outcome) -> str | None:
        """Goes to the next place after an attempt that found none; what to say of it, None when there is no other."""
        elsewhere = placement.fall_back(self._resources, self.now, outcome)
        if elsewhere is None:
            return None
        self.now = elsewhere
        return placement.sentence(self._resources, elsewhere)

    def regrow(self) -> None:
        """Goes back to all nodes."""
        self.now = placement.regrown(self.now)
