"""The whole way as it is deployed: `perdure-worker --pool gpu` reads, embeds, stores and searches, with an encoder."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure_api.documents import DocumentIngestResult, SearchResult
from perdure_control.factory import start_workflow
from tests.inference.tiny import write_encoder
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
