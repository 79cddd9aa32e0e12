"""The whole object, as the API server stores it."""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationError

from perdure_api import names
from perdure_api.model import TolerantModel
from perdure_api.spec import TrainingJobSpec
from perdure_api.status import TrainingJobStatus


class SpecError(ValueError):
    """A spec that is not one; the message lists every field with what was found and expected."""


class Metadata(TolerantModel):
    """The part of an object's metadata that anyone here reads."""

    name: str
    namespace: str
    uid: str
    generation: int = 1
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    finalizers: list[str] = []
    annotations: dict[str, str] = {}
    labels: dict[str, str] = {}


class TrainingJob(TolerantModel):
    """A TrainingJob: a wish (spec) and its answer (status)."""

    metadata: Metadata
    spec: TrainingJobSpec
    status: TrainingJobStatus = Field(default_factory=TrainingJobStatus)

    @property
    def workflow_id(self) -> str:
        """The id of this object's workflow."""
        return names.workflow_id(self.metadata.namespace, self.metadata.name, self.metadata.uid)


def parse_spec(document: dict[str, Any]) -> TrainingJobSpec:
    """The spec of a document.

    Raises:
        SpecError: what was found where, what was expected.
    """
    try:
        return TrainingJobSpec.from_wire(document)
    except ValidationError as error:
        problems = "; ".join(
            f"spec.{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']} (found {problem['input']!r})"
            for problem in error.errors()
        )
        raise SpecError(problems) from error
