"""The workflows that Perdure brings. Their classes are in the workers; this much everybody who starts them needs."""

from __future__ import annotations

from typing import Any, Final

from perdure_api import names
from perdure_api.fine_tune import FineTuneInput, FineTuneResult
from perdure_api.inference import BatchEmbedInput, BatchEmbedResult, PrepareAndInferInput, PrepareAndInferResult
from perdure_control.factory.entry import WorkflowEntry

FINE_TUNE: Final = WorkflowEntry(
    name="fine_tune",
    description="Makes a TrainingJob, follows it to its end, and returns its adapter and metrics.",
    workflow=names.FINE_TUNE_WORKFLOW_TYPE,
    input=FineTuneInput,
    result=FineTuneResult,
)

PREPARE_AND_INFER: Final = WorkflowEntry(
    name="prepare_and_infer",
    description="Validates and prepares a prompt, and has a language model answer it.",
    workflow=names.PREPARE_AND_INFER_WORKFLOW_TYPE,
    input=PrepareAndInferInput,
    result=PrepareAndInferResult,
)

BATCH_EMBED: Final = WorkflowEntry(
    name="batch_embed",
    description="Makes vectors of any number of texts, inline or in the store.",
    workflow=names.BATCH_EMBED_WORKFLOW_TYPE,
    input=BatchEmbedInput,
    result=BatchEmbedResult,
)

BUILTIN: Final[tuple[WorkflowEntry[Any], ...]] = (FINE_TUNE, PREPARE_AND_INFER, BATCH_EMBED)
