"""The workflows that Perdure brings. Their classes are in the workers; this much everybody who starts them needs."""

from __future__ import annotations

from typing import Any, Final

from perdure_api import names
from perdure_api.fine_tune import FineTuneInput, FineTuneResult
from perdure_control.factory.entry import WorkflowEntry

FINE_TUNE: Final = WorkflowEntry(
    name="fine_tune",
    description="Makes a TrainingJob, follows it to its end, and returns its adapter and metrics.",
    workflow=names.FINE_TUNE_WORKFLOW_TYPE,
    input=FineTuneInput,
    result=FineTuneResult,
)

BUILTIN: Final[tuple[WorkflowEntry[Any], ...]] = (FINE_TUNE,)
