"""docs/guides/inference.md, followed as it is written, with tiny models and folders in place of its URIs."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio import workflow
from temporalio.client import Client

from perdure_api import names
from tests.docs.markdown import blocks
from tests.inference.tiny import DIMENSION, write_encoder, write_generator
from tests.trainer.tiny import documents
from tests.workers.gpu import running_gpu_worker, server_with_workflows

PAGE = "docs/guides/inference.md"

pytestmark = [pytest.mark.temporal, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]


def block(language: str, number: int) -> str:
    return [each.text for each in blocks(language) if each.page == PAGE][number]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inference")
    write_encoder(folder / "models" / "all-minilm-l6-v2")
    write_generator(folder / "models" / "smollm2-135m")
    (folder / "datasets" / "bible").mkdir(parents=True)
    lines = [json.dumps({"text": text}) for text in documents(30)]
    (folder / "datasets" / "bible" / "train.jsonl").write_text("\n".join(lines))
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(folder: Path) -> AsyncIterator[Client]:
    async with server_with_workflows(AskingWorkflow) as client, running_gpu_worker(client, folder / "scratch"):
        yield client


def here(text: str, folder: Path) -> str:
    """What the page says, with its URIs led to this machine; a tiny model is a folder."""
    return re.sub(r"s3://perdure/(\S+?)(?:/smollm2-135m\.gguf)?(?=[\s\"]|$)", rf"file://{folder}/\1", text)


async def types(client: Client, shell: str, folder: Path) -> Any:
    """What a command prints on standard output, as JSON; it must succeed."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "TEMPORAL_ADDRESS": client.service_client.config.target_host,
        "TEMPORAL_CONFIG_FILE": str(folder / "none.toml"),
    }
    process = await asyncio.create_subprocess_exec(
        "bash", "-euo", "pipefail", "-c", shell, cwd=folder, env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, f"{shell}\n{out.decode()}{err.decode()}"
    return json.loads(out)


def shell_of(name: str) -> str:
    (found,) = [each.text for each in blocks("sh") if each.page == PAGE and each.text.startswith(f"perdure run {name}")]
    return found


async def test_vectors_are_made_as_the_page_says(client: Client, folder: Path, tmp_path: Path) -> None:
    (folder / "input.yaml").write_text(here(block("yaml", 0), folder))
    inline = await types(client, shell_of("batch_embed"), folder)
    assert [len(row) for row in inline["vectors"]] == [DIMENSION] * 2

    (folder / "input.yaml").write_text(here(block("yaml", 1), folder))
    stored = await types(client, shell_of("batch_embed"), folder)
    assert stored["count"] == 30
    shutil.copytree(stored["uri"].removeprefix("file://"), tmp_path / "vectors")
    program = block("python", 0) + 'print("[%d]" % table.num_rows)\n'
    (tmp_path / "read.py").write_text(program)
    assert await types(client, f"{sys.executable} read.py", tmp_path) == [30]


async def test_a_prompt_is_answered_as_the_page_says(client: Client, folder: Path) -> None:
    (folder / "input.yaml").write_text(here(block("yaml", 2), folder))

    answer = await types(client, shell_of("prepare_and_infer"), folder)

    assert {"text", "promptTokens", "completionTokens", "finishReason", "seconds"} <= answer.keys()
    assert answer["completionTokens"] == 60


@workflow.defn(sandboxed=False)
class AskingWorkflow:
    """Calls what the page defines."""

    @workflow.run
    async def run(self, program: str) -> list[Any]:
        there: dict[str, Any] = {}
        exec(program, there)  # the page's own
        nearest = await there["nearest"]("a lazy dog", ["some old tree", "a lazy dog"])
        return [nearest, *await there["answered"](["the quick"])]


async def test_a_workflow_asks_as_the_page_says(client: Client, folder: Path) -> None:
    program = here(block("python", 1), folder)
    program = program.replace("prompts=prompts)", "prompts=prompts, max_new_tokens=8)")

    nearest, answer = await client.execute_workflow(
        AskingWorkflow.run, program, id="asking", task_queue=names.TASK_QUEUE_CPU
    )

    assert nearest == 1
    assert isinstance(answer, str)
