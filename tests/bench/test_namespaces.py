"""What a benchmark makes goes again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from bench.cluster import namespaces, session
from bench.cluster.errors import BenchError
from tests.bench.stand_in import StandIn, stand_in


def there(server: StandIn) -> set[str]:
    return {path for path in server.objects if path.count("/") == 4 and "/namespaces/" in path}


async def test_a_namespace_goes_also_when_the_run_is_interrupted() -> None:
    async with stand_in() as (server, api):
        inside = asyncio.Event()

        async def run() -> None:
            async with namespaces.namespace(api, "control-plane", "Job-1") as name:
                assert there(server) == {f"/api/v1/namespaces/{name}"}
                inside.set()
                await asyncio.Event().wait()

        task = asyncio.ensure_future(run())
        await asyncio.wait_for(inside.wait(), 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert there(server) == set()


async def test_leftovers_of_a_run_that_was_killed_are_deleted_and_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with stand_in() as (server, api):
        for name, labels in {"bench-old": {namespaces.LABEL: "watch"}, "mine": {}}.items():
            await server.put(f"/api/v1/namespaces/{name}", {"metadata": {"name": name, "labels": labels}})
        job = "/apis/perdure.dev/v1alpha1/namespaces/bench-old/trainingjobs/j0"
        await server.put(job, {"metadata": {"name": "j0"}})

        assert await namespaces.clear_leftovers(api) == ["bench-old"]

        assert there(server) == {"/api/v1/namespaces/mine"}
        assert server.asked.index(("DELETE", job)) < server.asked.index(("DELETE", "/api/v1/namespaces/bench-old"))
        assert "found bench-old, left by a run that was cut off" in capsys.readouterr().out


async def test_a_namespace_that_does_not_go_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespaces, "_GONE_SECONDS", 0)
    async with stand_in() as (server, api):
        await server.put("/api/v1/namespaces/stuck", {"metadata": {"name": "stuck"}})
        server.stays = {"/api/v1/namespaces/stuck"}

        with pytest.raises(BenchError, match="namespace stuck is still there"):
            await namespaces.remove(api, "stuck")


async def _raises(error: BaseException) -> int:
    raise error


async def _in_a_group(error: Exception) -> int:
    async with asyncio.TaskGroup():
        raise error


async def _well() -> int:
    return 0


@pytest.mark.parametrize(
    ("work", "code", "says"),
    [
        pytest.param(_well, 0, "", id="done"),
        pytest.param(lambda: _raises(BenchError("no cluster")), 1, "bench: no cluster\n", id="a sentence"),
        pytest.param(lambda: _in_a_group(BenchError("no cluster")), 1, "bench: no cluster\n", id="in a task group"),
        pytest.param(
            lambda: _raises(asyncio.CancelledError()),
            130,
            "bench: interrupted, and cleaned up. Again.\n",
            id="cancelled",
        ),
    ],
)
def test_every_end_is_a_code_and_a_sentence(
    work: Callable[[], Coroutine[Any, Any, int]], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert session.finished(work(), "Again.") == code
    assert capsys.readouterr().err == says


def test_what_is_no_ones_fault_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        _unwrapped(lambda: session.finished(_raises(ZeroDivisionError()), ""))


def _unwrapped(work: Callable[[], object]) -> None:
    try:
        work()
    except ExceptionGroup as group:
        raise group.exceptions[0] from group


def test_two_benchmarks_at_once_are_refused(tmp_path: Path) -> None:
    with session.alone(tmp_path / "b/lock"):
        first = pytest.raises(BenchError, match="another benchmark at work")
        with first, session.alone(tmp_path / "b/lock"):
            pass
    with session.alone(tmp_path / "b/lock"):
        pass
