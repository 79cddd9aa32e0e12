"""What the operator and the workflow say to each other through Temporal."""

from __future__ import annotations

import hashlib
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from perdure_api.model import Count, TolerantModel
from perdure_api.names import LABEL_VALUE_LIMIT, purge_workflow_id, workflow_id
from perdure_api.spec import TrainingJobSpec
from perdure_api.status import TrainingJobStatus

QUERY_STATUS: Final = "status"
"""The newest TrainingJobStatus, as the workflow would publish it."""

SIGNAL_WISHES: Final = "wishes"
"""Takes Wishes: what may change while a job runs."""

SIGNAL_CHECKPOINT: Final = "emergency_checkpoint"
"""Takes a CheckpointRequest: have the running trainer save now."""

MEMO_TRAINING_JOB: Final = "trainingjob"
"""Memo: `<namespace>/<name>`, for people who read the workflow list."""


TEXT_LIMIT_CHARACTERS: Final = 256
"""Of a request's texts, which annotations and Events carry on. Longer ones are cut: a request is heard however it is
worded."""
GENERATION_LEAP: Final = 1_000_000
"""An object that changed once a second needs eleven days for so many generations: one that is further ahead of what is
known is nobody's, and believed it would make every wish to come look old."""
_LABEL_VALUE: Final = "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_LIMIT_CHARACTERS else f"{text[: TEXT_LIMIT_CHARACTERS - 1]}…"


def _short_id(text: str) -> str:
    """The id itself, or a digest where it is long: two that differ in their ends only are two."""
    return text if len(text) <= TEXT_LIMIT_CHARACTERS else hashlib.sha256(text.encode()).hexdigest()


class JobRef(TolerantModel):
    """Which TrainingJob."""

    namespace: str
    name: str
    uid: str
    generation: int = 1

    @property
    def workflow_id(self) -> str:
        """The id of its workflow."""
        return workflow_id(self.namespace, self.name, self.uid)

    @property
    def purge_workflow_id(self) -> str:
        """The id of the workflow that deletes its checkpoints."""
        return purge_workflow_id(self.namespace, self.name, self.uid)


class Wishes(TolerantModel):
    """What may change while a job runs. The newest generation counts: told twice or late does no harm."""

    generation: Count
    suspend: bool = False
    kueue_queue: str | None = Field(default=None, max_length=LABEL_VALUE_LIMIT, pattern=_LABEL_VALUE)
    """The queue of Kueue that Jobs of attempts to come wait in. Empty: none; None: nothing is said of it."""


class CheckpointRequest(TolerantModel):
    """A checkpoint is wanted now."""

    reason: Annotated[str, AfterValidator(_cut)] = ""
    """Why, for people; it is told in the Event."""
    id: Annotated[str, AfterValidator(_short_id)] = ""
    """The same one told twice is one request. Empty: each is one of its own."""


class Placement(TolerantModel):
    """Which of what the user asks for an attempt gets."""

    alternative: int = 0
    """0: the resources as they stand first; n: the n-th of their alternatives."""
    nodes: int | None = None
    """Fewer nodes than that asks for; None: as many."""
    room: tuple[int, ...] = ()
    """For how many nodes there was room where it was tried before, in that order."""


class TrainingInput(TolerantModel):
    """The argument of the workflow. Only ever grows by optional fields: workflows outlive releases."""

    job: JobRef
    spec: TrainingJobSpec
    carried: TrainingJobStatus | None = None
    """What was told so far, when a long history was cut and the workflow goes on in a new run."""
    recalled: TrainingJobStatus | None = None
    """What the object itself tells of this very job, should Temporal have lost the history of its workflow. A field of
    its own: a worker that does not know it begins anew, where it would take an attempt under way for one that ended."""
    suspended_seconds: float = 0.0
    """How long it was suspended so far, which deadlines.activeSeconds does not count."""
    answered: str = ""
    """Id of the newest CheckpointRequest so far."""
    placement: Placement = Placement()
    """Where attempts are tried by now."""
    kueue_queue: str = ""
    """The queue of Kueue that its Jobs wait in; empty: none."""


class PurgeInput(TolerantModel):
    """The argument of the workflow that deletes a run's checkpoints."""

    job: JobRef
    output_uri: str
    """The spec's output.uri."""
