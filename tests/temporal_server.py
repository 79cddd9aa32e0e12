"""A real Temporal that keeps its data, for tests that stop it, or the programs around it."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from temporalio.client import Client
from temporalio.service import RPCError

PATIENCE_SECONDS = 120

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


class TemporalServer:
    """A Temporal server that can be stopped and started again, with its data."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.address = f"127.0.0.1:{unused_port()}"

    def start(self) -> None:
        host, port = self.address.split(":")
        program = Path(sys.executable).with_name("temporal")
        with (self._folder / "temporal.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, "server", "start-dev", "--headless", "--ip", host, "--port", port, "--log-level", "error",
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
