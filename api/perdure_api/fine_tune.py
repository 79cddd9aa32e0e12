"""What the workflow `fine_tune` takes and returns."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from perdure_api.model import TolerantModel
from perdure_api.spec import TrainingJobSpec
from perdure_api.status import ResultStatus

_DNS_LABEL: Final = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_DNS_NAME: Final = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"


class FineTuneInput(TolerantModel):
    """A TrainingJob that is to be made and followed to its end. Only ever grows by optional fields."""

    namespace: str = Field(max_length=63, pattern=_DNS_LABEL, description="Namespace of the TrainingJob.")
    name: str = Field(max_length=253, pattern=_DNS_NAME, description="Name of the TrainingJob.")
    spec: TrainingJobSpec = Field(description="Its spec, as in a manifest.")


class FineTuneResult(TolerantModel):
    """What came out of it."""

    namespace: str
    name: str
    uid: str
    result: ResultStatus = Field(default=ResultStatus(), description="As it stands in the status of the TrainingJob.")
