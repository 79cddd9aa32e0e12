"""docs/guides/add-a-workflow.md, followed as it is written: the files, the commands, and what they show."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from temporalio.client import Client
from temporalio.worker import Worker

from perdure_api import names
from perdure_control.factory import load_registry
from perdure_workers import extensions
from perdure_workers.process import sandbox
from tests.docs.markdown import blocks
from tests.temporal_server import dev_server

PAGE = "docs/guides/add-a-workflow.md"

pytestmark = [pytest.mark.temporal, pytest.mark.slow]


def block(language: str, number: int = 0) -> str:
    return [each.text for each in blocks(language) if each.page == PAGE][number]


@dataclass(frozen=True)
class Reader:
    """Somebody who types what the page says, in a folder of their own."""

    folder: Path
    client: Client
    environment: dict[str, str]

    async def types(self, shell: str) -> str:
        """What it prints on standard output; it must succeed."""
        process = await asyncio.create_subprocess_exec(
            "bash", "-euo", "pipefail", "-c", shell, cwd=self.folder, env=self.environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        assert process.returncode == 0, f"{shell}\n{out.decode()}{err.decode()}"
        return out.decode()


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[Reader]:
    """One who has a Temporal; what they install goes to a folder beside all that this environment has."""
    async with dev_server() as client:
        site = tmp_path / "site"
        pip = {"PIP_TARGET": str(site), "PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0"}
        yield Reader(
            tmp_path,
            client,
            {
                **os.environ,
                **pip,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "PYTHONPATH": os.pathsep.join([str(site), *sys.path]),
                "TEMPORAL_ADDRESS": client.service_client.config.target_host,
                "TEMPORAL_CONFIG_FILE": str(tmp_path / "none.toml"),
            },
        )


async def test_it_is_followed_from_the_first_block_to_the_last(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    (reader.folder / "greetings.py").write_text(block("python"))
    (reader.folder / "pyproject.toml").write_text(block("toml"))
    (reader.folder / "input.yaml").write_text(block("yaml"))

    listed = await reader.types(block("sh"))
    assert [line.split()[0] for line in listed.splitlines() if line.startswith(("NAME", "greet"))] == ["NAME", "greet"]

    monkeypatch.syspath_prepend(str(reader.folder / "site"))
    brought = extensions.usable(load_registry(), sandbox())
    assert brought.problems == ()
    with ThreadPoolExecutor(4) as executor:
        async with Worker(
            reader.client,
            task_queue=names.TASK_QUEUE_CPU,
            workflows=brought.workflows,
            activities=brought.activities,
            activity_executor=executor,
            max_concurrent_activities=4,
            workflow_runner=sandbox(),
        ):
            assert await reader.types(block("sh", 1)) == block("json")
            (reader.folder / "main.py").write_text(block("python", 1))
            assert await reader.types("python main.py") == "Hello Ada, Hello Ada\n"
