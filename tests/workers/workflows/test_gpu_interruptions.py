"""GPU workers that are killed or stopped: what is lost is the piece that was under way, and nobody sees it."""

from __future__ import annotations

import asyncio
import json
import signal
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio import workflow
from temporalio.client import Client

from perdure_api import names
from perdure_api.inference import Generate, Generated
from perdure_control.factory import start_workflow
from tests.inference.tiny import write_encoder, write_generator
from tests.trainer.tiny import documents
from tests.workers.gpu import gpu_worker_process, noted, pending, server_with_workflows, until_noted

pytestmark = [pytest.mark.temporal, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

FILES, ROWS = 8, 250


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models that take a fraction of a second for a piece of work, and eight such pieces of it."""
    folder = tmp_path_factory.mktemp("models")
    write_encoder(folder / "encoder", width=256)
    write_generator(folder / "generator")
    texts = [f"{number} {text} {text}" for number, text in enumerate(documents(FILES * ROWS))]
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[Client]:
    async with server_with_workflows(GenerateWorkflow) as client:
        yield client


@workflow.defn(sandboxed=False)
class GenerateWorkflow:
    """Nothing but the activity, as `eval` asks for it."""

    @workflow.run
    async def run(self, request: Generate) -> Generated:
        from perdure_workers.workflows import gpu_calls  # noqa: PLC0415 - the test's own process

        return await gpu_calls.generate(request)


async def begin_embedding(client: Client, folder: Path, output: Path) -> Any:
    given = {
        "model": f"file://{folder}/encoder",
        "source": {"uri": f"file://{folder}/texts.jsonl"},
        "output": f"file://{output}",
        "rowsPerFile": ROWS,
    }
    return (await start_workflow(client, "batch_embed", given, f"embed-{uuid.uuid4()}")).handle


async def begin_generating(client: Client, folder: Path) -> Any:
    request = Generate(
        model=f"file://{folder}/generator", prompts=documents(25), max_new_tokens=50, exact=True, temperature=0.7
    )
    return await client.start_workflow(
        GenerateWorkflow.run, request, id=f"generate-{uuid.uuid4()}", task_queue=names.TASK_QUEUE_CPU
    )


def files_of(result: Any) -> dict[str, bytes]:
    """By their names."""
    return {path.name: path.read_bytes() for path in Path(result.uri.removeprefix("file://")).iterdir()}


async def test_gpu_worker_crashes_mid_activity_and_batch_embed_has_identical_output(
    client: Client, folder: Path, tmp_path: Path
) -> None:
    with gpu_worker_process(client, tmp_path / "log"):
        handle = await begin_embedding(client, folder, tmp_path / "undisturbed")
        undisturbed = await handle.result()

    handle = await begin_embedding(client, folder, tmp_path / "killed")
    with gpu_worker_process(client, tmp_path / "log") as first:
        done = await until_noted(handle, first, at_least=2 * ROWS)
        first.send_signal(signal.SIGKILL)
        first.wait()
    assert done < FILES * ROWS, "it was over before it was killed"
    written = {path: path.stat().st_mtime_ns for path in sorted((tmp_path / "killed").glob("*/*.parquet"))}
    with gpu_worker_process(client, tmp_path / "log"):
        result = await handle.result()

    assert files_of(result) == files_of(undisturbed)
    assert len(files_of(result)) == FILES
    assert result.model_copy(update={"uri": "", "seconds": 0.0}) == undisturbed.model_copy(
        update={"uri": "", "seconds": 0.0}
    )
    # What a heartbeat had told is not done again.
    kept = list(written)[: done // ROWS]
    assert [path.stat().st_mtime_ns for path in kept] == [written[path] for path in kept]


async def test_gpu_worker_crashes_mid_activity_and_generate_has_identical_answers(
    client: Client, folder: Path, tmp_path: Path
) -> None:
    with gpu_worker_process(client, tmp_path / "log"):
        undisturbed: Generated = await (await begin_generating(client, folder)).result()

    handle = await begin_generating(client, folder)
    with gpu_worker_process(client, tmp_path / "log") as first:
        done = await until_noted(handle, first, at_least=2)
        first.send_signal(signal.SIGKILL)
        first.wait()
    assert done < len(undisturbed.texts), "it was over before it was killed"
    with gpu_worker_process(client, tmp_path / "log"):
        result: Generated = await handle.result()

    assert result.texts == undisturbed.texts
    assert len({each.text for each in result.texts}) > 1


async def test_a_gpu_worker_that_stops_hands_over_what_it_has_done(
    client: Client, folder: Path, tmp_path: Path
) -> None:
    """At once: nobody waits for a heartbeat that does not come."""
    handle = await begin_embedding(client, folder, tmp_path / "out")
    with gpu_worker_process(client, tmp_path / "log") as first:
        await until_noted(handle, first, at_least=ROWS)
        first.terminate()
        assert await asyncio.to_thread(first.wait, 30) == 0

    waiting = await pending(handle)
    handed_over = (await noted(handle))["rows"]
    assert "this worker is stopping" in waiting.last_failure.message
    on_disk = sorted((tmp_path / "out").glob("*/*.parquet"))
    assert (handed_over, len(on_disk)) == (len(on_disk) * ROWS, handed_over // ROWS)
    assert handed_over < FILES * ROWS, "it was over before it was stopped"
    with gpu_worker_process(client, tmp_path / "log"):
        result = await handle.result()
    assert result.count == FILES * ROWS


async def test_work_waits_in_the_queue_while_there_is_no_gpu_worker(
    client: Client, folder: Path, tmp_path: Path
) -> None:
    handle = await begin_embedding(client, folder, tmp_path / "out")
    async with asyncio.timeout(60):
        while not (waiting := await pending(handle)) or waiting.activity_type.name != "embed_texts":  # noqa: ASYNC110 - a server is asked
            await asyncio.sleep(0.05)
    assert waiting.attempt == 1

    with gpu_worker_process(client, tmp_path / "log"):
        assert (await handle.result()).count == FILES * ROWS
