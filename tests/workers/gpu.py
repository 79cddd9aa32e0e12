"""Workers of the GPU pool for tests: in this process, or as one that can be killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from temporalio.client import Client, WorkflowHandle

from perdure_data.stores import Stores
from perdure_inference.engine import Engine
from perdure_inference.models import Models
from perdure_workers.activities.texts import TextActivities
from perdure_workers.gpu_process import gpu_worker
from perdure_workers.process import WORKFLOWS
from perdure_workers.settings import Pool, WorkerSettings
from perdure_workers.slots import SlotsInUse
from tests.temporal_server import cpu_worker, dev_server


@asynccontextmanager
async def server_with_workflows(*more: type) -> AsyncIterator[Client]:
    """A real Temporal, and what carries workflows (ours, and more) out on it; nobody serves the GPU queue."""
    workflows, activities = [*WORKFLOWS, *more], [TextActivities(Stores()).survey_texts]
    async with dev_server() as client, cpu_worker(client, workflows, activities):
        yield client


@asynccontextmanager
async def running_gpu_worker(client: Client, scratch: Path, slots: int = 1) -> AsyncIterator[Engine]:
    """One in this process."""
    settings = WorkerSettings(pool=Pool.GPU, slots=slots, grace_seconds=1)
    stores = Stores()
    with Engine(Models(stores, scratch, keep=4)) as engine:
        async with gpu_worker(client, engine, stores, settings, SlotsInUse()):
            yield engine


@contextmanager
def gpu_worker_process(client: Client, log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """`perdure-worker --pool gpu`, which is killed at the end of the block, if not before."""
    settings = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PERDURE_TEMPORAL_ADDRESS": client.service_client.config.target_host,
        "PERDURE_HTTP_PORT": str(free_port()),
        "PERDURE_GRACE_SECONDS": "10",
        "PERDURE_MODELS_DIR": str(log.parent),
        **environment,
    }
    command = [sys.executable, "-m", "perdure_workers", "--pool", "gpu", "--slots", "1"]
    with (
        log.open("ab") as output,
        subprocess.Popen(command, env=settings, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def pending(handle: WorkflowHandle[Any, Any]) -> Any:
    """The one activity that a workflow waits for; None: there is none."""
    found = (await handle.describe()).raw_description.pending_activities
    return found[0] if found else None


async def noted(handle: WorkflowHandle[Any, Any]) -> dict[str, Any]:
    """The heartbeat details of the one activity that a workflow waits for."""
    activity = await pending(handle)
    payloads = activity.heartbeat_details.payloads if activity else []
    return json.loads(payloads[0].data) if payloads else {}


async def until_noted(handle: WorkflowHandle[Any, Any], process: subprocess.Popen[bytes], at_least: int) -> int:
    """Waits until so many rows, or answers, are done; how many are."""
    async with asyncio.timeout(120):
        while True:
            note = await noted(handle)
            done = note.get("rows", 0) or len(note.get("texts", []))
            if done >= at_least:
                return int(done)
            assert process.poll() is None, "the worker ended by itself"
            await asyncio.sleep(0.02)
