"""The workflows that Perdure brings. Their classes are in the workers; this much everybody who starts them needs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from perdure_api import names
from perdure_api.documents import DocumentIngestInput, DocumentIngestResult, SearchInput, SearchResult
from perdure_api.evals import EvalInput, Verdict
from perdure_api.fine_tune import FineTuneInput, FineTuneResult
from perdure_api.inference import BatchEmbedInput, BatchEmbedResult, PrepareAndInferInput, PrepareAndInferResult
from perdure_control.factory.entry import Duplicates, WorkflowEntry, digest

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

DOCUMENT_INGEST: Final = WorkflowEntry(
    name="document_ingest",
    description="Brings a vector store up to date with documents: text, Markdown, HTML and PDF.",
    workflow=names.DOCUMENT_INGEST_WORKFLOW_TYPE,
    input=DocumentIngestInput,
    result=DocumentIngestResult,
    id=lambda wish: f"ingest-{digest(wish)[:16]}",
    duplicates=Duplicates.REPEAT,
)

SEARCH: Final = WorkflowEntry(
    name="search",
    description="Finds the chunks of a vector store that are nearest to a text.",
    workflow=names.SEARCH_WORKFLOW_TYPE,
    input=SearchInput,
    result=SearchResult,
    # Nobody waits for an answer any longer.
    timeout=timedelta(minutes=10),
    duplicates=Duplicates.REPEAT,
)

EVAL: Final = WorkflowEntry(
    name="eval",
    description="Scores the answers of a model or adapter to a suite, compares them with a baseline: a verdict.",
    workflow=names.EVAL_WORKFLOW_TYPE,
    input=EvalInput,
    result=Verdict,
    duplicates=Duplicates.REPEAT,
)

BUILTIN: Final[tuple[WorkflowEntry[Any], ...]] = (
    FINE_TUNE,
    PREPARE_AND_INFER,
    BATCH_EMBED,
    DOCUMENT_INGEST,
    SEARCH,
    EVAL,
)
