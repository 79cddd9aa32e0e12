"""`perdure search`, typed where documents were ingested."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from temporalio.client import Client

from perdure_control.factory import start_workflow
from tests.cli.typed import Perdure
from tests.workers.data.standing_in import Models, all_workers

pytestmark = [
    pytest.mark.temporal,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:lance.*"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[Client]:
    async with all_workers(Models()) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def folder(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search")
    (folder / "docs").mkdir()
    (folder / "docs" / "food.md").write_text("# Bread\n\nFlour and water.\n\n# Cake\n\nSugar, eggs and butter.\n")
    wish = {"source": f"{folder.as_uri()}/docs", "store": f"{folder.as_uri()}/vectors", "model": "file:///models/mini"}
    await (await start_workflow(client, "document_ingest", wish)).handle.result()
    return folder


async def test_finds_chunks_and_says_where_they_are(perdure: Perdure, client: Client, folder: Path) -> None:
    address = client.service_client.config.target_host
    command = ("search", "eggs and butter", "--store", f"{folder.as_uri()}/vectors", "--address", address)

    said = await perdure(*command, "-k", "1")
    told = await perdure(*command, "-o", "json")

    assert (said.status, said.err) == (0, "")
    first, *text = said.out.splitlines()
    assert first.split("  ")[1:] == [f"{folder.as_uri()}/docs/food.md", "27-58", "Cake"]
    assert text == ["    # Cake", "", "    Sugar, eggs and butter."]
    hits = json.loads(told.out)["hits"]
    assert [hit["headings"] for hit in hits] == [["Cake"], ["Bread"]]
    assert f"{hits[0]['score']:.3f}" == first.split("  ")[0]


async def test_says_in_a_sentence_why_nothing_was_found(perdure: Perdure, client: Client, folder: Path) -> None:
    address = client.service_client.config.target_host

    nowhere = await perdure("search", "x", "--store", f"{folder.as_uri()}/none", "--address", address)
    strange = await perdure("search", "x", "--store", "qdrant://h/c", "--address", address)
    empty = await perdure("search", " ", "--store", f"{folder.as_uri()}/vectors", "--address", address)

    assert (nowhere.status, "holds no vectors; expected a store that document_ingest has written" in nowhere.err) == (
        1,
        True,
    )
    assert (strange.status, "is no vector store that this version speaks to" in strange.err) == (2, True)
    assert (empty.status, "text: it is empty" in empty.err) == (2, True)
