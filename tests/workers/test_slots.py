"""Slots in use: counted where activities run, told on the pod."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry
from temporalio.testing import ActivityEnvironment, WorkflowEnvironment
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput

from perdure_api.slots import SlotsUnreadable, read_slots, slots_text
from perdure_control.cluster import Cluster, ClusterUnavailable
from perdure_control.settings import SettingsError
from perdure_workers import process
from perdure_workers import slots as slots_module
from perdure_workers.extensions import Extensions
from perdure_workers.progress.board import ProgressBoard
from perdure_workers.progress.writer import ProgressWriter
from perdure_workers.settings import WorkerSettings
from perdure_workers.slots import OwnPod, SlotsInUse, SlotsTold
from perdure_workers.watching.index import AttemptIndex
from tests.api_stand_in import answered_by

POD = OwnPod("perdure", "worker-1", "training")


class Innermost(ActivityInboundInterceptor):
    """An activity that looks at the count while it runs, and may fail."""

    def __init__(self, slots: SlotsInUse, error: Exception | None = None) -> None:
        self._slots = slots
        self._error = error

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002 - Temporal's name
        if self._error:
            raise self._error
        return dict(self._slots.used)


async def run(slots: SlotsInUse, queue: str, error: Exception | None = None) -> Any:
    async def activity() -> None: ...

    call = ExecuteActivityInput(fn=activity, args=(), executor=None, headers={})
    interceptor = slots.counting(queue).intercept_activity(Innermost(slots, error))
    return await ActivityEnvironment().run(interceptor.execute_activity, call)


async def test_an_activity_takes_a_slot_of_its_queue_while_it_runs() -> None:
    slots = SlotsInUse()
    slots.counting("idle")

    assert await run(slots, "cpu") == {"idle": 0, "cpu": 1}
    assert slots.used == {"idle": 0, "cpu": 0}


async def test_an_activity_that_fails_gives_its_slot_back() -> None:
    slots = SlotsInUse()

    with pytest.raises(ValueError, match="no"):
        await run(slots, "cpu", ValueError("no"))

    assert slots.used == {"cpu": 0}


async def test_prometheus_sees_each_queue() -> None:
    slots, registry = SlotsInUse(), CollectorRegistry()
    slots.counting("cpu")
    slots.register(registry)
    slots.add("cpu", 3)

    assert registry.get_sample_value("perdure_worker_slots_used", {"queue": "cpu"}) == 3


async def test_workflows_and_short_activities_count_and_monitors_do_not() -> None:
    slots, board = SlotsInUse(), ProgressBoard()
    server = str(Path(sys.executable).with_name("temporal-test-server"))
    async with (
        Pods().serving() as cluster,
        await WorkflowEnvironment.start_time_skipping(test_server_existing_path=server) as environment,
    ):
        workers = process._workers(
            environment.client,
            cluster,
            AttemptIndex(),
            board,
            ProgressWriter(cluster, board, 1),
            None,
            CollectorRegistry(),
            WorkerSettings(),
            slots,
            Extensions(),
        )
        assert {worker.task_queue for worker in workers} == {"perdure-cpu", "perdure-watch"}
        del workers  # they would look for their server when it is gone

    assert slots.used == {"perdure-cpu": 0}


class Pods:
    """So much of an API server as a pod's annotations need."""

    def __init__(self) -> None:
        self.patches: list[tuple[str, dict[str, str]]] = []
        self.is_away = False
        self.told = asyncio.Event()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Cluster]:
        async with answered_by(self._patch, method="PATCH") as cluster:
            yield cluster

    async def _patch(self, request: web.Request) -> web.Response:
        if self.is_away:
            return web.json_response({"message": "away"}, status=503)
        self.patches.append((request.path, (await request.json())["metadata"]["annotations"]))
        self.told.set()
        return web.json_response({})

    async def next(self) -> dict[str, str]:
        async with asyncio.timeout(60):
            await self.told.wait()
        self.told.clear()
        return self.patches[-1][1]


async def test_a_pod_says_what_it_has_in_hand_and_costs_as_much() -> None:
    pods, slots = Pods(), SlotsInUse()
    for queue, count in (("cpu", 3), ("gpu", 1)):
        slots.counting(queue)
        slots.add(queue, count)
    async with pods.serving() as cluster:
        assert await SlotsTold(cluster, POD, slots).tell()

    assert pods.patches == [
        (
            "/api/v1/namespaces/perdure/pods/worker-1",
            {
                "perdure.dev/slots-used": '{"cpu":3,"gpu":1}',
                "perdure.dev/temporal-namespace": "training",
                "controller.kubernetes.io/pod-deletion-cost": "4",
            },
        )
    ]


async def test_an_idle_worker_tells_so_once_and_then_nothing() -> None:
    pods, slots = Pods(), SlotsInUse()
    slots.counting("cpu")
    async with pods.serving() as cluster:
        told = SlotsTold(cluster, POD, slots)

        assert [await told.tell(), await told.tell()] == [True, False]

    assert pods.patches[0][1]["perdure.dev/slots-used"] == '{"cpu":0}'


async def test_what_came_and_went_between_two_tellings_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots_module, "TELL_EVERY_SECONDS", 0.01)
    pods, slots = Pods(), SlotsInUse()
    slots.counting("cpu")
    async with pods.serving() as cluster:
        keeping = asyncio.create_task(SlotsTold(cluster, POD, slots).keep())
        assert (await pods.next())["perdure.dev/slots-used"] == '{"cpu":0}'

        slots.add("cpu", 1)
        slots.add("cpu", -1)
        slots.add("cpu", 1)

        assert (await pods.next())["perdure.dev/slots-used"] == '{"cpu":1}'
        keeping.cancel()
    assert len(pods.patches) == 2


async def test_what_could_not_be_told_is_told_later() -> None:
    pods, slots = Pods(), SlotsInUse()
    slots.counting("cpu")
    async with pods.serving() as cluster:
        told = SlotsTold(cluster, POD, slots)
        pods.is_away = True
        with pytest.raises(ClusterUnavailable):
            await told.tell()

        pods.is_away = False

        assert await told.tell()


def test_what_a_worker_says_is_read_as_it_was_meant() -> None:
    assert read_slots(slots_text({"b": 2, "a: ü/": 0})) == {"a: ü/": 0, "b": 2}


@pytest.mark.parametrize("text", ["", "3", "[1]", '{"cpu": -1}', '{"cpu": "3"}', '{"cpu": true}', "[" * 100_000])
def test_what_no_worker_says_is_refused_with_what_was_found(text: str) -> None:
    with pytest.raises(SlotsUnreadable, match=r"found .*expected"):
        read_slots(text)


def test_a_worker_that_is_to_tell_must_know_where_its_pod_is() -> None:
    assert not WorkerSettings.from_environment({}).publish_slots
    assert WorkerSettings.from_environment({"PERDURE_PUBLISH_SLOTS": "true", "PERDURE_NAMESPACE": "n"}).publish_slots
    with pytest.raises(SettingsError, match="PERDURE_PUBLISH_SLOTS is true and PERDURE_NAMESPACE is not set"):
        WorkerSettings.from_environment({"PERDURE_PUBLISH_SLOTS": "true"})
