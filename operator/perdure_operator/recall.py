"""What a TrainingJob tells of itself, for a workflow that Temporal knows nothing of any more."""

from __future__ import annotations

from pydantic import ValidationError

from perdure_api.status import TrainingJobStatus
from perdure_operator.observation import Observation

_OF_OTHERS = ("progress", "checkpoint", "queue")
"""What others than its workflow tell: they go on telling it, and the workflow must not repeat old news."""


def recall(seen: Observation) -> TrainingJobStatus | None:
    """The workflow's part of an object's status; None where no workflow of this very object has told any.

    A status that was restored from a backup is that of another object: the id of its workflow holds another uid. One
    that cannot be read (a newer release wrote it) is none, and the job begins anew, as one without a status does.
    """
    if not seen.spoken_for or seen.terminal:
        return None
    theirs = {name: value for name, value in seen.status.items() if name not in _OF_OTHERS}
    known = [condition.to_wire() for condition in seen.conditions]
    try:
        return TrainingJobStatus.from_wire({**theirs, "conditions": known})
    except ValidationError:
        return None
