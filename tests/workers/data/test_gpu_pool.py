"""The whole way as it is deployed: `perdure-worker --pool gpu` reads, embeds, stores and searches, with an encoder."""

from __future__ import annotations

import asyncio
import signal
from datetime import timedelta
from pathlib import Path

import pytest

from perdure_api.documents import DocumentIngestResult, SearchResult
from perdure_control.factory import start_workflow
from perdure_documents.vectors import open_vectors
from perdure_workers.workflows import data_calls, gpu_calls
from tests.inference.tiny import DIMENSION, write_encoder
from tests.workers.gpu import gpu_worker_process, server_with_workflows

pytestmark = [pytest.mark.temporal, pytest.mark.slow]


async def test_a_worker_of_the_gpu_pool_serves_documents_too(tmp_path: Path) -> None:
    write_encoder(tmp_path / "encoder")
    (tmp_path / "docs").mkdir()
    for number in range(10):
        (tmp_path / "docs" / f"{number}.txt").write_text(f"Number {number}: a fox jumps over {number} lazy dogs.")
    wish = {
        "source": f"{tmp_path.as_uri()}/docs",
        "store": f"{tmp_path.as_uri()}/vectors",
        "model": f"{tmp_path.as_uri()}/encoder",
    }
    question = {"text": "Number 7: a fox jumps over 7 lazy dogs.", "store": wish["store"], "count": 1}

    async with server_with_workflows() as client:
        with gpu_worker_process(client, tmp_path / "worker.log"):
            ingested: DocumentIngestResult = await (
                await start_workflow(client, "document_ingest", wish)
            ).handle.result()
            found: SearchResult = await (await start_workflow(client, "search", question)).handle.result()

    assert (ingested.written, ingested.chunks, ingested.refused) == (10, 10, 0), (tmp_path / "worker.log").read_text()
    assert [hit.document.rpartition("/")[2] for hit in found.hits] == ["7.txt"]
    assert found.hits[0].score == pytest.approx(1.0, abs=1e-4)


@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:lance.*")
async def test_a_worker_that_is_killed_amid_an_ingestion_costs_nothing_but_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed with batches in every step; the store is that of an ingestion that nobody disturbed."""
    documents = 640
    for calls in (data_calls, gpu_calls):
        monkeypatch.setattr(calls, "HEARTBEAT", timedelta(seconds=20))
    write_encoder(tmp_path / "encoder")
    (tmp_path / "docs").mkdir()
    for number in range(documents):
        (tmp_path / "docs" / f"{number}.txt").write_text(
            f"Number {number}: a fox jumps over {number} lazy dogs.\n\n" * 40
        )
    wish = {"source": f"{tmp_path.as_uri()}/docs", "model": f"{tmp_path.as_uri()}/encoder"}
    stores = [f"{tmp_path.as_uri()}/{name}" for name in ("undisturbed", "killed")]

    async with server_with_workflows() as client:
        with gpu_worker_process(client, tmp_path / "worker.log"):
            started = await start_workflow(client, "document_ingest", {**wish, "store": stores[0]})
            undisturbed: DocumentIngestResult = await started.handle.result()
        started = await start_workflow(client, "document_ingest", {**wish, "store": stores[1]})
        with gpu_worker_process(client, tmp_path / "worker.log") as first:
            async with asyncio.timeout(120):
                done = 0
                while not done:
                    progress = await started.handle.query("progress", result_type=DocumentIngestResult)
                    done = progress.written
                    await asyncio.sleep(0.02)
            first.send_signal(signal.SIGKILL)
            first.wait()
        assert done < documents, "it was over before it was killed"
        with gpu_worker_process(client, tmp_path / "worker.log"):
            result: DocumentIngestResult = await started.handle.result()

    assert result == undisturbed
    assert result.written == documents
    of_both = [
        {(each.document, each.ordinal, each.chunk) for each in open_vectors(store).nearest([1.0] * DIMENSION, 100_000)}
        for store in stores
    ]
    assert of_both[0] == of_both[1]
    assert len(of_both[0]) == result.chunks
    assert not [path for path in (tmp_path / "killed" / "staging").rglob("*") if path.is_file()]
