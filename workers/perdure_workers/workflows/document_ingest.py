"""The workflow `document_ingest`: documents into a vector store, only those that are new or changed."""

from __future__ import annotations

import asyncio
from typing import Final

from temporalio import workflow
from temporalio.exceptions import ApplicationError, FailureError

with workflow.unsafe.imports_passed_through():
    from perdure_api import names
    from perdure_api.documents import REFUSALS_TOLD, DocumentIngestResult, DocumentProblem
    from perdure_api.inference import EmbedTexts
    from perdure_workers.messages import (
        ActivityName,
        BatchStored,
        ChunkBatch,
        DocumentsChunked,
        EndIngestion,
        IngestionEnded,
        IngestionPlanned,
        IngestionRun,
        IngestionSoFar,
        PlanIngestion,
        StoreBatch,
    )
    from perdure_workers.workflows import gpu_calls
    from perdure_workers.workflows.data_calls import call

BATCHES_AT_A_TIME: Final = 4
"""While the vectors of one are made, another is read and a third is written."""


@workflow.defn(name=names.DOCUMENT_INGEST_WORKFLOW_TYPE)
class DocumentIngestWorkflow:
    """Documents go batch by batch through three steps: chunks, vectors, store. Each may be done twice."""

    def __init__(self) -> None:
        # Of two commits to a table at a time one would be tried again.
        self._writing = asyncio.Lock()
        self._so_far: IngestionSoFar | None = None

    @workflow.query
    def progress(self) -> DocumentIngestResult:
        """What has become of the documents by now."""
        return _result(self._so_far) if self._so_far else DocumentIngestResult()

    @workflow.run
    async def run(self, wish: IngestionRun) -> DocumentIngestResult:
        """What became of the documents.

        Raises:
            ApplicationError: it is refused; its type is a DocumentProblem, or a Problem of the model.
        """
        so_far = wish.so_far or await self._begun(wish)
        try:
            so_far = await self._batches(wish, so_far)
            _refuse_all_refused(so_far)
        except (asyncio.CancelledError, FailureError):
            await asyncio.shield(self._end(wish, so_far, complete=False))
            raise
        if so_far.next_batch < so_far.plan.batches:
            workflow.continue_as_new(wish.model_copy(update={"so_far": so_far}))
        ended = await self._end(wish, so_far, complete=True)
        return _result(so_far).model_copy(update={"removed": ended.removed})

    async def _begun(self, wish: IngestionRun) -> IngestionSoFar:
        staging = f"{wish.staging_folder}/{workflow.info().run_id}"
        plan = await call(
            ActivityName.PLAN_INGESTION,
            PlanIngestion(source=wish.source, store=wish.store, staging=staging, may_be_empty=wish.may_be_empty),
            IngestionPlanned,
        )
        return IngestionSoFar(staging=staging, plan=plan)

    async def _batches(self, wish: IngestionRun, so_far: IngestionSoFar) -> IngestionSoFar:
        """All that are left, or as many as this history has room for."""
        under_way: list[asyncio.Task[IngestionSoFar]] = []
        try:
            while under_way or self._goes_on(so_far):
                while len(under_way) < BATCHES_AT_A_TIME and self._goes_on(so_far):
                    under_way.append(asyncio.create_task(self._batch(wish, so_far, so_far.next_batch)))
                    so_far = so_far.model_copy(update={"next_batch": so_far.next_batch + 1})
                so_far = self._so_far = _sum(so_far, await under_way.pop(0))
        except BaseException:
            for task in under_way:
                task.cancel()
            raise
        return so_far

    @staticmethod
    def _goes_on(so_far: IngestionSoFar) -> bool:
        return so_far.next_batch < so_far.plan.batches and not workflow.info().is_continue_as_new_suggested()

    async def _batch(self, wish: IngestionRun, so_far: IngestionSoFar, batch: int) -> IngestionSoFar:
        """What one batch adds."""
        chunked = await call(
            ActivityName.CHUNK_DOCUMENTS,
            ChunkBatch(
                store=wish.store,
                model=wish.model,
                staging=so_far.staging,
                batch=batch,
                chunk_size=wish.chunk_size,
                chunk_overlap=wish.chunk_overlap,
            ),
            DocumentsChunked,
        )
        adds = IngestionSoFar(
            staging=so_far.staging,
            plan=so_far.plan,
            unchanged=chunked.unchanged,
            written=chunked.written,
            refused=len(chunked.refusals),
            chunks=chunked.chunks,
            changed=chunked.changed,
            refusals=chunked.refusals,
        )
        if not chunked.changed:
            return adds
        store = StoreBatch(store=wish.store, model=wish.model, staging=so_far.staging, batch=batch, part=chunked.part)
        if chunked.part is not None:
            output = f"{so_far.staging}/vectors/{batch:06}"
            embedded = await gpu_calls.embed_texts(EmbedTexts(model=wish.model, part=chunked.part, output=output))
            adds = adds.model_copy(update={"tokens": embedded.tokens, "truncated": embedded.truncated})
            store = store.model_copy(
                update={
                    "files": embedded.files,
                    "dimension": embedded.dimension,
                    "model_fingerprint": embedded.model_fingerprint,
                }
            )
        async with self._writing:
            await call(ActivityName.STORE_CHUNKS, store, BatchStored)
        return adds

    @staticmethod
    async def _end(wish: IngestionRun, so_far: IngestionSoFar, *, complete: bool) -> IngestionEnded:
        return await call(
            ActivityName.END_INGESTION,
            EndIngestion(
                source=wish.source,
                store=wish.store,
                staging=so_far.staging,
                remove_missing=wish.remove_missing,
                changed=so_far.changed > 0,
                complete=complete,
            ),
            IngestionEnded,
        )


def _sum(so_far: IngestionSoFar, adds: IngestionSoFar) -> IngestionSoFar:
    counts = ("unchanged", "written", "refused", "chunks", "tokens", "truncated", "changed")
    return so_far.model_copy(
        update={
            **{name: getattr(so_far, name) + getattr(adds, name) for name in counts},
            "refusals": [*so_far.refusals, *adds.refusals][:REFUSALS_TOLD],
        }
    )


def _result(so_far: IngestionSoFar) -> DocumentIngestResult:
    return DocumentIngestResult(
        documents=so_far.plan.documents,
        unchanged=so_far.unchanged,
        written=so_far.written,
        refused=so_far.refused,
        chunks=so_far.chunks,
        tokens=so_far.tokens,
        truncated=so_far.truncated,
        refusals=so_far.refusals,
    )


def _refuse_all_refused(so_far: IngestionSoFar) -> None:
    """Whoever ingests one document, and that is broken, wants to be told so."""
    if so_far.refused and so_far.refused == so_far.plan.documents:
        others = f" (and {so_far.refused - 1} others)" if so_far.refused > 1 else ""
        raise ApplicationError(
            f"{so_far.refusals[0].message}{others}", type=DocumentProblem.NOTHING_READ, non_retryable=True
        )
