"""What fails around a workflow of the factory: real worker processes that are killed, a real Temporal that is too."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
import yaml
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from perdure_control.factory import Registry, Started, start_workflow
from tests.temporal_server import PATIENCE_SECONDS, TemporalServer, unused_port
from tests.workers.failing.steps import STEPS, Done

pytestmark = [pytest.mark.temporal, pytest.mark.slow]

ROOT = Path(__file__).parents[3]
REGISTRY = Registry({"steps": STEPS})


@pytest.fixture(scope="module")
def temporal_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TemporalServer]:
    """One Temporal for a module; who stops it starts it again."""
    server = TemporalServer(tmp_path_factory.mktemp("temporal"))
    server.start()
    yield server
    server.stop()


@pytest_asyncio.fixture
async def client(temporal_server: TemporalServer) -> Client:
    return await Client.connect(temporal_server.address, data_converter=pydantic_data_converter)


class WorkerProcess:
    """`python -m perdure_workers` as in a pod, with a package that brings `steps`, and no API server."""

    def __init__(self, folder: Path, address: str) -> None:
        self._folder = folder
        self._environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(folder / "site"), str(ROOT), *sys.path]),
            "KUBECONFIG": str(folder / "kubeconfig"),
            "PERDURE_TEMPORAL_ADDRESS": address,
            "PERDURE_GRACE_SECONDS": "1",
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    def start(self) -> None:
        with (self._folder / "worker.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "perdure_workers"],
                env={**self._environment, "PERDURE_HTTP_PORT": str(unused_port())},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def kill(self) -> None:
        if self.process:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def restart(self) -> None:
        """Killed, and another one in its place that remembers nothing."""
        self.kill()
        self.start()


@pytest.fixture
def worker(temporal_server: TemporalServer, tmp_path: Path) -> Iterator[WorkerProcess]:
    info = tmp_path / "site" / "steps-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: steps\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[perdure.workflows]\nsteps = tests.workers.failing.steps:STEPS\n")
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{unused_port()}"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    process = WorkerProcess(tmp_path, temporal_server.address)
    process.start()
    yield process
    process.kill()


async def begin(client: Client, folder: Path, **given: bool) -> Started:
    return await start_workflow(client, "steps", {"folder": folder, **given}, registry=REGISTRY)


async def ends(started: Started) -> Done:
    async with asyncio.timeout(PATIENCE_SECONDS):
        done: Done = await started.handle.result()
    return done


def log(folder: Path) -> list[str]:
    """What was done, in its order."""
    path = folder / "log"
    return path.read_text().splitlines() if path.exists() else []


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():  # noqa: ASYNC110 - other processes change it
            await asyncio.sleep(0.05)


async def test_cpu_worker_crashes_mid_activity(client: Client, worker: WorkerProcess, tmp_path: Path) -> None:
    """Another one does the activity, from what the dead one told with its heartbeats; what was done before is not."""
    started = await begin(client, tmp_path, hold=True)
    await until(lambda: len(log(tmp_path)) > 1)
    dead = worker.pid

    worker.restart()
    await until(lambda: len(log(tmp_path)) > 2)
    (tmp_path / "go").touch()

    assert await ends(started) == Done(text=f"held by {worker.pid}")
    assert log(tmp_path) == ["one", f"hold 1 {dead}", f"hold 2 {worker.pid} resumed", "two"]


async def test_activity_times_out(client: Client, worker: WorkerProcess, tmp_path: Path) -> None:
    """It is tried again as often as its policy says, then the workflow handles it and goes on."""
    started = await begin(client, tmp_path, hang=True)

    assert await ends(started) == Done(text="went on without")
    assert log(tmp_path) == ["one", "hang 1", "hang 2", "hang 3", "two"]


async def test_workflow_worker_restarts(client: Client, worker: WorkerProcess, tmp_path: Path) -> None:
    """The next one replays the workflow from its history, repeats no side effect, and goes on."""
    started = await begin(client, tmp_path, wait=True)
    await until(lambda: log(tmp_path) == ["one"])

    worker.restart()
    await started.handle.signal("tell")

    assert await ends(started) == Done(text="")
    assert log(tmp_path) == ["one", "two"]
    scheduled = [
        event
        for event in (await started.handle.fetch_history()).events
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
    ]
    assert len(scheduled) == 2


async def test_duplicate_start(client: Client, worker: WorkerProcess, tmp_path: Path) -> None:
    """Of several starts of the same work at once one begins it, and all get its result."""
    started = await asyncio.gather(*(begin(client, tmp_path) for _ in range(5)))

    assert len({each.id for each in started}) == 1
    assert sorted(each.joined for each in started) == [False, True, True, True, True]
    assert {(await ends(each)).text for each in started} == {""}
    assert log(tmp_path) == ["one", "two"]


async def test_temporal_server_down_and_back(
    client: Client, worker: WorkerProcess, temporal_server: TemporalServer, tmp_path: Path
) -> None:
    """The worker lives on, ends what it has in hand meanwhile, and the workflow goes on when Temporal is back."""
    started = await begin(client, tmp_path, hold=True)
    await until(lambda: len(log(tmp_path)) > 1)

    temporal_server.stop()
    (tmp_path / "go").touch()
    assert log(tmp_path)[-1].startswith("hold 1 ")
    await asyncio.to_thread(temporal_server.start)

    again = await Client.connect(temporal_server.address, data_converter=pydantic_data_converter)
    handle = again.get_workflow_handle(started.id, result_type=Done)
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await handle.result() == Done(text=f"held by {worker.pid}")
    assert worker.process
    assert worker.process.poll() is None, "the same process all the time"
    done = log(tmp_path)
    assert (done[0], done[-1], done.count("one"), done.count("two")) == ("one", "two", 1, 1)
