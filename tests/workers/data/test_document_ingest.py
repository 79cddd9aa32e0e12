"""Documents into a vector store and found again, on a real Temporal."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio import workflow
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError

from perdure_api.documents import DocumentIngestResult, SearchResult
from perdure_control.factory import start_workflow
from perdure_workers.activities import documents as activities
from perdure_workers.messages import IngestionSoFar
from perdure_workers.workflows.document_ingest import DocumentIngestWorkflow
from tests.documents import samples
from tests.workers.data.standing_in import Models, all_workers

pytestmark = [
    pytest.mark.temporal,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:lance.*"),
]

MODELS = Models()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[Client]:
    async with all_workers(MODELS) as client:
        yield client


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of documents of every kind."""
    folder = tmp_path / "docs"
    (folder / "deep").mkdir(parents=True)
    (folder / "bread.md").write_text("# Bread\n\nFlour, water and salt.\n\n# Cake\n\nSugar, eggs and butter.\n")
    (folder / "deep" / "tea.html").write_text("<h1>Tea</h1><p>Leaves &amp; hot water.</p>")
    (folder / "deep" / "coffee.pdf").write_bytes(samples.pdf("Beans, ground and brewed."))
    (folder / "milk.txt").write_text("From cows.")
    (folder / ".hidden.txt").write_text("No document.")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    return folder


Run = Callable[..., Awaitable[Any]]


@pytest.fixture
def ingest(client: Client, source: Path, tmp_path: Path) -> Run:
    async def run(**given: Any) -> DocumentIngestResult:
        wish = {"source": source.as_uri(), "store": (tmp_path / "vectors").as_uri(), "model": "file:///models/mini"}
        started = await start_workflow(client, "document_ingest", wish | given)
        return await started.handle.result()

    return run


@pytest.fixture
def search(client: Client, tmp_path: Path) -> Run:
    async def run(text: str, count: int = 3) -> SearchResult:
        wish = {"text": text, "store": (tmp_path / "vectors").as_uri(), "count": count}
        return await (await start_workflow(client, "search", wish, f"search-{uuid.uuid4()}")).handle.result()

    return run


async def refusal(running: Awaitable[Any]) -> tuple[str | None, str]:
    with pytest.raises(WorkflowFailureError) as raised:
        await running
    assert isinstance(raised.value.cause, ApplicationError)
    return raised.value.cause.type, raised.value.cause.message


async def found(search: Run, text: str) -> list[str]:
    return sorted({hit.document.rpartition("/")[2] for hit in (await search(text, 100)).hits})


async def test_documents_of_every_kind_are_found_by_what_they_say(ingest: Run, search: Run, source: Path) -> None:
    result = await ingest()

    assert result == DocumentIngestResult(documents=4, written=4, chunks=5, tokens=5)
    hit = (await search("sugar and butter")).hits[0]
    assert (hit.document, hit.headings, hit.page) == ((source / "bread.md").as_uri(), ["Cake"], None)
    assert (source / "bread.md").read_text()[hit.start : hit.end] == hit.text == "# Cake\n\nSugar, eggs and butter."
    assert 0.5 < hit.score <= 1
    pdf = (await search("ground beans brewed")).hits[0]
    assert (pdf.document, pdf.page) == ((source / "deep" / "coffee.pdf").as_uri(), 1)


async def test_a_second_time_nothing_changes_and_no_text_is_embedded(ingest: Run) -> None:
    await ingest()
    MODELS.embedded.clear()

    result = await ingest()

    assert result == DocumentIngestResult(documents=4, unchanged=4)
    assert MODELS.embedded == []


async def test_a_changed_document_has_exactly_its_chunks_replaced(ingest: Run, search: Run, source: Path) -> None:
    await ingest()
    MODELS.embedded.clear()
    (source / "bread.md").write_text("# Bread\n\nRye and water.\n")

    result = await ingest()

    assert result == DocumentIngestResult(documents=4, unchanged=3, written=1, chunks=1, tokens=1)
    assert MODELS.embedded == ["# Bread\n\nRye and water."]
    texts = [hit.text for hit in (await search("water", 100)).hits if hit.document.endswith("bread.md")]
    assert texts == ["# Bread\n\nRye and water."]


async def test_a_removed_document_is_gone_and_one_that_is_empty_now_too(ingest: Run, search: Run, source: Path) -> None:
    await ingest()
    (source / "milk.txt").unlink()
    (source / "bread.md").write_text("")

    result = await ingest()

    assert (result.removed, result.refused, result.unchanged, result.written) == (1, 1, 2, 0)
    assert [each.message for each in result.refusals] == [f"{(source / 'bread.md').as_uri()} is empty; leave it out"]
    assert await found(search, "water") == ["coffee.pdf", "tea.html"]


async def test_what_is_missing_stays_where_it_is_to(ingest: Run, search: Run, source: Path) -> None:
    await ingest()
    (source / "milk.txt").unlink()

    assert (await ingest(removeMissing=False)).removed == 0
    assert "milk.txt" in await found(search, "cows")


async def test_an_empty_source_removes_nothing_unless_it_may_be_empty(ingest: Run, search: Run, source: Path) -> None:
    await ingest()
    shutil.rmtree(source)

    type_, message = await refusal(ingest())

    assert (type_, "upload documents, correct source, or set mayBeEmpty" in message) == ("SourceNotFound", True)
    assert len(await found(search, "water")) == 4
    assert (await ingest(mayBeEmpty=True)).removed == 4
    assert await found(search, "water") == []


async def test_one_document_is_a_source_too(ingest: Run, search: Run, source: Path) -> None:
    await ingest()
    (source / "milk.txt").write_text("From oats.")

    result = await ingest(source=(source / "milk.txt").as_uri())

    assert result == DocumentIngestResult(documents=1, written=1, chunks=1, tokens=1)
    assert (await search("oats")).hits[0].text == "From oats."
    assert len(await found(search, "water")) == 4


async def test_bad_documents_are_told_and_the_others_read(ingest: Run, search: Run, source: Path) -> None:
    (source / "milk.txt").write_bytes(b"\0\1")
    (source / "deep" / "locked.pdf").write_bytes(samples.encrypted(samples.pdf("secret"), "pw"))

    result = await ingest()

    assert (result.written, result.refused) == (3, 2)
    assert {each.document.rpartition("/")[2]: each.problem for each in result.refusals} == {
        "milk.txt": "Binary",
        "locked.pdf": "Encrypted",
    }
    assert await found(search, "water") == ["bread.md", "coffee.pdf", "tea.html"]


async def test_where_every_document_is_bad_the_workflow_says_so(ingest: Run, source: Path) -> None:
    (source / "broken.pdf").write_bytes(b"%PDF-1.7\nno more")

    type_, message = await refusal(ingest(source=(source / "broken.pdf").as_uri()))

    assert (type_, "broken.pdf is a broken PDF" in message) == ("NothingRead", True)


async def test_vectors_of_another_dimension_change_nothing(
    ingest: Run, search: Run, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ingest()
    (source / "milk.txt").write_text("From oats.")
    with monkeypatch.context() as patch:
        patch.setattr(MODELS, "dimension", 32)
        patch.setattr(MODELS, "fingerprint", "sha256:other")

        type_, message = await refusal(ingest(model="file:///models/maxi"))
        asked, other = await refusal(search("oats"))

    assert (type_, "holds vectors of 64 numbers by file:///models/mini" in message) == ("StoreMismatch", True)
    assert (asked, "is another one now" in other) == ("StoreMismatch", True)
    assert [hit.text for hit in (await search("from cows", 1)).hits] == ["From cows."]


async def test_many_batches_go_through_and_nothing_is_left_behind(
    ingest: Run, search: Run, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activities, "BATCH_DOCUMENTS", 2)
    for number in range(21):
        (source / f"{number}.txt").write_text(f"Number {number}.")

    result = await ingest()

    assert result == DocumentIngestResult(documents=25, written=25, chunks=26, tokens=26)
    assert sorted(path.name for path in (tmp_path / "vectors").iterdir() if any(path.rglob("*.*"))) == ["chunks.lance"]


async def test_a_history_that_grows_long_is_continued_and_the_result_is_the_same(
    client: Client, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def goes_on(so_far: IngestionSoFar) -> bool:
        return so_far.next_batch < so_far.plan.batches and workflow.info().get_current_history_length() < 60

    monkeypatch.setattr(activities, "BATCH_DOCUMENTS", 2)
    monkeypatch.setattr(DocumentIngestWorkflow, "_goes_on", staticmethod(goes_on))
    for number in range(21):
        (source / f"{number}.txt").write_text(f"Number {number}.")
    wish = {"source": source.as_uri(), "store": (tmp_path / "vectors").as_uri(), "model": "file:///models/mini"}

    started = await start_workflow(client, "document_ingest", wish)

    assert await started.handle.result() == DocumentIngestResult(documents=25, written=25, chunks=26, tokens=26)
    assert (await started.handle.describe()).run_id != started.handle.first_execution_run_id


async def test_in_a_database_all_is_the_same_and_nothing_is_left_in_the_source(
    ingest: Run, client: Client, source: Path, pgvector: str
) -> None:
    async def found(text: str) -> list[tuple[str, str]]:
        wish = {"text": text, "store": pgvector, "count": 100}
        result = await (await start_workflow(client, "search", wish, f"search-{uuid.uuid4()}")).handle.result()
        return [(hit.document.rpartition("/")[2], hit.text) for hit in result.hits]

    first, again = await ingest(store=pgvector), await ingest(store=pgvector)
    (source / "bread.md").write_text("# Bread\n\nRye and water.\n")
    (source / "milk.txt").unlink()
    changed = await ingest(store=pgvector)

    assert first == DocumentIngestResult(documents=4, written=4, chunks=5, tokens=5)
    assert again == DocumentIngestResult(documents=4, unchanged=4)
    assert changed == DocumentIngestResult(documents=3, unchanged=2, written=1, removed=1, chunks=1, tokens=1)
    assert (await found("rye and water"))[0] == ("bread.md", "# Bread\n\nRye and water.")
    assert sorted(name for name, _ in await found("water")) == ["bread.md", "coffee.pdf", "tea.html"]
    assert files_in(source / "_staging") == []


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_a_database_that_does_not_let_us_in_ends_the_workflow_and_one_that_is_away_does_not(
    ingest: Run, client: Client, source: Path, pgvector: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("PGPASSWORD", "guessed")
        type_, message = await refusal(ingest(store=pgvector))
    assert (type_, "correct PGUSER and PGPASSWORD" in message) == ("AccessDenied", True)

    with monkeypatch.context() as patch:
        # Nobody listens at port 1.
        uri = pgvector.replace(f":{pgvector.split(':')[2].partition('/')[0]}/", ":1/")
        patch.setenv("PGPORT", "1")
        wish = {"source": source.as_uri(), "store": uri, "model": "file:///models/mini"}
        started = await start_workflow(client, "document_ingest", wish)
        said = await told_of_a_failure(started.handle)
        await started.handle.terminate()

    assert "cannot be reached" in said


async def told_of_a_failure(handle: WorkflowHandle[Any, Any]) -> str:
    """What an activity that is tried again has said last."""
    async with asyncio.timeout(30):
        while True:
            for pending in (await handle.describe()).raw_description.pending_activities:
                if pending.last_failure.message:
                    return f"{pending.last_failure.message} {pending.last_failure.cause.message}"
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"store": "qdrant://host/x"}, "is no vector store that this version speaks to; expected a folder for LanceDB"),
        ({"store": "file:///d/v", "source": "file:///d"}, "the store file:///d/v is in the source file:///d"),
        ({"chunkSize": 100, "chunkOverlap": 60}, "found chunkOverlap 60 for chunkSize 100; expected at most half"),
    ],
    ids=["scheme", "inside", "overlap"],
)
async def test_what_cannot_be_is_refused_before_anything_starts(ingest: Run, given: dict[str, Any], says: str) -> None:
    with pytest.raises(Exception, match=says):
        await ingest(**given)


async def test_a_search_in_a_store_that_is_none_says_so(search: Run) -> None:
    type_, message = await refusal(search("anything"))

    assert (type_, "holds no vectors; expected a store that document_ingest has written" in message) == (
        "StoreNotFound",
        True,
    )


async def test_more_than_temporal_takes_is_refused_with_what_to_ask_for(ingest: Run, search: Run, source: Path) -> None:
    """Of chunks of the largest size, in a script of two bytes a character."""
    for number in range(60):
        (source / f"{number}.txt").write_text(f"Number {number}. " + "слово " * 3_300)
    await ingest(chunkSize=20_000, chunkOverlap=0)

    type_, message = await refusal(search("слово", 100))

    assert type_ == "InvalidRequest"
    assert message.endswith("Ask for fewer of them (count), or ingest with a smaller chunkSize")
    assert len((await search("слово", 20)).hits) == 20
