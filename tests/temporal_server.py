"""A real Temporal for tests: one for as long as they run, or one that keeps its data and is stopped meanwhile."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.runtime import Runtime
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from perdure_api import names
from perdure_workers.process import sandbox

PROGRAM: Final = Path(sys.executable).with_name("temporal")
PATIENCE_SECONDS = 120
ACTIVITIES: Final = 4
"""That such a worker carries out at once."""

Answer = TypeVar("Answer")


def wait_until(question: Callable[[], Answer | None], what: str) -> Answer:
    """The first answer to a question that is not empty.

    Fails with what was waited for when there is none in time.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if answer := question():
            return answer
        time.sleep(0.05)
    return pytest.fail(f"{what}: not within {PATIENCE_SECONDS} s")


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def dev_server(
    *settings: str, runtime: Runtime | None = None, identity: str | None = None
) -> AsyncIterator[Client]:
    """A client of a server of its own, which forgets everything with the context.

    Args:
        settings: Of the server's dynamic configuration, as KEY=VALUE.
        runtime: Of the client.
        identity: Of the client in histories.
    """
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(PROGRAM),
        dev_server_startup_timeout=timedelta(seconds=PATIENCE_SECONDS),
        dev_server_extra_args=[argument for setting in settings for argument in ("--dynamic-config-value", setting)],
        data_converter=pydantic_data_converter,
        runtime=runtime,
        identity=identity,
    ) as environment:
        yield environment.client


@asynccontextmanager
async def cpu_worker(
    client: Client, workflows: Sequence[type], activities: Sequence[Callable[..., Any]]
) -> AsyncIterator[None]:
    """A worker of the CPU pool's queue, with the sandbox that a process has."""
    with ThreadPoolExecutor(ACTIVITIES) as executor:
        async with Worker(
            client,
            task_queue=names.TASK_QUEUE_CPU,
            workflows=workflows,
            activities=activities,
            activity_executor=executor,
            max_concurrent_activities=ACTIVITIES,
            workflow_runner=sandbox(),
        ):
            yield


class TemporalServer:
    """A Temporal server that can be stopped and started again, with its data."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.address = f"127.0.0.1:{unused_port()}"

    def start(self) -> None:
        host, port = self.address.split(":")
        with (self._folder / "temporal.log").open("ab") as log:
            self._process = subprocess.Popen(
                [PROGRAM, "server", "start-dev", "--headless", "--ip", host, "--port", port, "--log-level", "error",
                 "--db-filename", self._folder / "temporal.db", "--sqlite-pragma", "journal_mode=WAL",
                 "--sqlite-pragma", "synchronous=NORMAL"],
                stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        wait_until(self._answers, "Temporal answers")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def forget(self) -> None:
        """Loses everything, while it is stopped."""
        for file in self._folder.glob("temporal.db*"):
            file.unlink()

    def _answers(self) -> bool:
        async def list_nothing() -> None:
            client = await Client.connect(self.address)
            assert [execution async for execution in client.list_workflows("WorkflowType = 'none'")] == []

        try:
            asyncio.run(list_nothing())
        except (RPCError, RuntimeError):
            return False
        return True
