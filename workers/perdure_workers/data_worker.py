"""What serves the queue of data work: documents, vector stores, evaluations. It runs beside the GPU pool's own worker.

That pool's image has the libraries, whose 300 MB the CPU pool's has no room for, and documents that nobody has looked
at are not opened in the process that keeps training jobs. Its slots are its own: reading a document takes no GPU.
"""

from __future__ import annotations

from datetime import timedelta
from importlib.util import find_spec
from typing import Final

from temporalio.client import Client
from temporalio.worker import Worker

from perdure_api import names
from perdure_data.stores import Stores
from perdure_documents.reader import DocumentReader
from perdure_workers.activities.documents import DocumentActivities
from perdure_workers.activities.evaluation import EvaluationActivities
from perdure_workers.log_context import LogContext
from perdure_workers.settings import WorkerSettings
from perdure_workers.slots import SlotsInUse

SLOTS: Final = 4
"""They mostly wait for the store; documents are read one at a time."""
_LIBRARIES: Final = ("lancedb", "markdown_it", "numpy", "pyarrow", "pypdf", "regex")


def missing_library() -> str | None:
    """A library that all of this work stands on and that is not installed here; None: all are."""
    return next((name for name in _LIBRARIES if find_spec(name) is None), None)


def data_worker(
    client: Client, stores: Stores, reader: DocumentReader, settings: WorkerSettings, slots: SlotsInUse
) -> Worker:
    """One, not begun yet. Like the GPU pool's it has no version: what is said between it and workflows only grows."""
    documents = DocumentActivities(stores, reader)
    evaluation = EvaluationActivities(stores)
    return Worker(
        client,
        task_queue=names.TASK_QUEUE_DATA,
        activities=[
            documents.plan_ingestion,
            documents.chunk_documents,
            documents.store_chunks,
            documents.end_ingestion,
            documents.describe_vectors,
            documents.search_vectors,
            evaluation.read_suite,
            evaluation.score_answers,
            evaluation.judge,
        ],
        interceptors=[LogContext(), slots.counting(names.TASK_QUEUE_DATA, SLOTS)],
        max_concurrent_activities=SLOTS,
        graceful_shutdown_timeout=timedelta(seconds=settings.grace_seconds),
    )
