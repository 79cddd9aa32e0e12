"""What the operator and the workflow say to each other through Temporal."""

from __future__ import annotations

from typing import Final

from perdure_api.model import TolerantModel
from perdure_api.names import workflow_id
from perdure_api.spec import TrainingJobSpec

QUERY_STATUS: Final = "status"
"""The newest TrainingJobStatus, as the workflow would publish it."""
QUERY_PROGRESS: Final = "progress"
QUERY_ATTEMPTS: Final = "attempts"

MEMO_TRAINING_JOB: Final = "trainingjob"
"""Memo: `<namespace>/<name>`, for people who read the workflow list."""


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


class TrainingInput(TolerantModel):
    """The argument of the workflow. Only ever grows by optional fields: workflows outlive releases."""

    job: JobRef
    spec: TrainingJobSpec
