"""`perdure top`: what is read, and what is shown of it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from rich.console import Console

from perdure_cli import top
from perdure_cli.cluster import Where
from perdure_cli.exposition import Sample, samples
from perdure_cli.job import read_job
from perdure_cli.looking import Looking
from perdure_cli.temporal import Temporal
from perdure_cli.top import Picture, Told, Waiting, told_by
from perdure_control.factory import Breaker
from perdure_workers.breakers.board import Breakers
from perdure_workers.dead_letters.keeper import DeadLetterKeeper
from perdure_workers.slots import SlotsInUse
from tests.cli import documents
from tests.cli.typed import Perdure
from tests.control.factory.workflows import try_it
from tests.temporal_server import dev_server

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def page(used: int, *, fails: int = 0, letters: int = 0) -> str:
    """What a worker tells, by its own code."""
    registry, slots, nobody = CollectorRegistry(), SlotsInUse(), None
    slots.counting("perdure-cpu", 20)
    slots.add("perdure-cpu", used)
    slots.register(registry)
    breakers = Breakers([try_it], {"try_it": Breaker(least=1)})
    for number in range(fails):
        breakers.circuits["try_it"].note(number, 0, failed=True)
    breakers.register(registry)
    keeper = DeadLetterKeeper(nobody)  # type: ignore[arg-type]
    keeper.waiting = {"fail": letters}
    keeper.register(registry, ["greet"])
    return generate_latest(registry).decode()


def shown(picture: Picture) -> list[list[str]]:
    console = Console(width=300)
    with console.capture() as capture:
        console.print(top.view(picture, NOW))
    return [line.split() for line in capture.get().splitlines()]


def test_what_workers_tell_is_summed_but_for_dead_letters_of_which_each_tells_all() -> None:
    told = told_by([page(3, letters=2), page(4, fails=1, letters=2), "nothing\n# of this { is a sample"])

    assert told == Told(
        workers=3,
        slots={"perdure-cpu": 40},
        used={"perdure-cpu": 7},
        breakers={"try_it": Counter({"open": 1, "closed": 1, "half-open": 0})},
        dead_letters={"fail": 2, "greet": 0},
    )
    assert told.queues == ["perdure-cpu", "perdure-watch", "perdure-cpu.try_it"]


@pytest.mark.parametrize(
    ("line", "sample"),
    [
        ("x 1", Sample("x", {}, 1)),
        ('x{a="b",c="d"} 2.5', Sample("x", {"a": "b", "c": "d"}, 2.5)),
        (r'x{a="q\"} 7 \\ \n"} 1e3', Sample("x", {"a": 'q"} 7 \\ \n'}, 1000)),
        ("x +Inf 1700000000000", Sample("x", {}, float("inf"))),
    ],
    ids=["bare", "labels", "odd characters", "with its time"],
)
def test_samples_are_read_as_prometheus_reads_them(line: str, sample: Sample) -> None:
    assert list(samples(f"# TYPE x gauge\n{line}\nx{{a= 1\nx one\n")) == [sample]


def test_queues_breakers_dead_letters_and_jobs_that_go_on_are_shown() -> None:
    told = told_by([page(3, letters=2), page(4, fails=1, letters=2)])
    waiting = {"perdure-cpu": Waiting(12, 2), "perdure-watch": Waiting(0, 2), "perdure-cpu.try_it": Waiting(5, 1)}
    running, done = documents.document(status=documents.RUNNING), documents.document(status=documents.SUCCEEDED)
    done["metadata"]["name"] = "done"

    lines = shown(Picture(told, waiting, [read_job(running), read_job(done)]))

    assert lines[:8] == [
        ["QUEUE", "WAITING", "RUNNING", "ASKED", "BY"],
        ["perdure-cpu", "12", "7", "of", "40", "2"],
        ["perdure-watch", "0", "2"],
        ["perdure-cpu.try_it", "5", "1"],
        [],
        ["BREAKER", "OPEN", "HALF-OPEN", "CLOSED"],
        ["try_it", "1", "0", "1"],
        [],
    ]
    assert lines[8] == ["Dead", "letters:", "2", "of", "fail;", "`perdure", "dead-letters", "list`", "shows", "them."]
    assert "smol" in lines[11]
    assert len(lines) == 12


def test_what_is_not_known_is_no_number() -> None:
    assert shown(Picture()) == [
        ["QUEUE", "WAITING", "RUNNING", "ASKED", "BY"],
        ["perdure-cpu", "?", "?", "?"],
        ["perdure-watch", "?", "?", "?"],
    ]
    assert shown(Picture(jobs=[]))[-1] == ["No", "job", "is", "going", "on."]


class Api:
    """So much of an API server as has workers, their metrics, and jobs."""

    def __init__(self) -> None:
        self.pods = {"worker-a": page(3), "worker-b": page(4)}
        self.refuses_metrics = False

    @asynccontextmanager
    async def serving(self, folder: Path) -> AsyncIterator[Path]:
        """The kubeconfig that opens it."""
        application = web.Application()
        application.add_routes([web.get("/{path:.*}", self._answer)])
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0][:2]
            yield _kubeconfig(folder, f"http://{host}:{port}")
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        match request.path.split("/")[1:]:
            case ["api", "v1", "pods"]:
                assert request.query["labelSelector"] == "app.kubernetes.io/part-of=perdure"
                items = [_pod(name, "perdure_workers") for name in self.pods] + [_pod("operator", "perdure_operator")]
                return web.json_response({"metadata": {}, "items": items})
            case ["api", "v1", "namespaces", "perdure", "pods", name, "proxy", "metrics"]:
                if self.refuses_metrics:
                    return web.json_response({"message": "pods/proxy is forbidden"}, status=403)
                return web.Response(text=self.pods[name.removesuffix(":8080")])
            case ["apis", "perdure.dev", "v1alpha1", "trainingjobs"]:
                return web.json_response({"metadata": {}, "items": [documents.document(status=documents.RUNNING)]})
        return web.json_response({"message": request.path}, status=404)


def _pod(name: str, module: str) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "perdure", "name": name},
        "spec": {"containers": [{"command": ["python", "-m", module]}, {}]},
        "status": {"phase": "Running"},
    }


def _kubeconfig(folder: Path, server: str) -> Path:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return path


NOWHERE = Temporal("127.0.0.1:1")


async def test_without_temporal_all_but_what_waits_is_known(tmp_path: Path) -> None:
    async with Api().serving(tmp_path) as kubeconfig:
        picture = await Looking(Where(kubeconfig=str(kubeconfig)), NOWHERE).look()

    assert picture.told
    assert (picture.told.workers, picture.told.used) == (2, {"perdure-cpu": 7})
    assert picture.jobs
    assert picture.waiting is None
    (problem,) = picture.problems
    assert problem.startswith("Temporal at 127.0.0.1:1 cannot be reached")


async def test_whoever_may_not_ask_pods_is_told_the_right_that_is_missing(tmp_path: Path) -> None:
    api = Api()
    api.refuses_metrics = True
    async with api.serving(tmp_path) as kubeconfig:
        picture = await Looking(Where(kubeconfig=str(kubeconfig)), NOWHERE).look()

    assert (picture.told, picture.is_empty) == (None, False)
    assert picture.problems[0] == "none of 2 workers tells anything; may you get pods/proxy?"


@pytest.mark.temporal
async def test_the_command_shows_it_once_where_there_is_no_terminal(perdure: Perdure, tmp_path: Path) -> None:
    async with Api().serving(tmp_path) as kubeconfig, dev_server() as client:
        address = client.service_client.config.target_host
        said = await perdure("top", "--address", address, KUBECONFIG=str(kubeconfig))

    assert (said.status, said.err) == (0, "")
    assert [line.split() for line in said.out.splitlines()][1:3] == [
        ["perdure-cpu", "0", "7", "of", "40", "0"],
        ["perdure-watch", "0", "0"],
    ]


async def test_where_nothing_can_be_known_the_command_says_so(perdure: Perdure, tmp_path: Path) -> None:
    kubeconfig = _kubeconfig(tmp_path, "http://127.0.0.1:1")

    said = await perdure("top", "--address", "127.0.0.1:1", KUBECONFIG=str(kubeconfig))

    assert said.status == 3
    assert [line.partition(":")[0] for line in said.err.splitlines()] == ["Not known"] * 2


async def test_on_a_terminal_it_goes_on_until_it_is_interrupted(perdure: Perdure, tmp_path: Path) -> None:
    primary, secondary = os.openpty()
    async with Api().serving(tmp_path) as kubeconfig:
        process = await asyncio.create_subprocess_exec(
            "env", "--default-signal=INT", sys.executable, "-m", "perdure_cli", "top", "--address", "127.0.0.1:1",
            env={**os.environ, "KUBECONFIG": str(kubeconfig), "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm"},
            stdin=secondary, stdout=secondary, stderr=secondary,
        )  # fmt: skip
        os.close(secondary)
        seen = b""
        async with asyncio.timeout(60):
            while seen.count(b"perdure-watch") < 2:
                seen += await asyncio.to_thread(os.read, primary, 65536)
            process.send_signal(2)
            drained = asyncio.create_task(asyncio.to_thread(_drain, primary))
            assert await process.wait() == 0
            await drained
    os.close(primary)


def _drain(terminal: int) -> None:
    """Reads on: who writes to a terminal that nobody reads waits."""
    try:
        while os.read(terminal, 65536):
            pass
    except OSError:
        return
