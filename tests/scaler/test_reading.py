"""What is read of Temporal and of pods."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from temporalio import workflow
from temporalio.api.workflowservice.v1 import SetWorkerDeploymentCurrentVersionRequest
from temporalio.client import Client
from temporalio.common import Priority, VersioningBehavior, WorkerDeploymentVersion
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker, WorkerDeploymentConfig

from perdure_api.slots import SlotsUnreadable
from perdure_control.cluster import Cluster
from perdure_control.temporal import connect
from perdure_scaler.demand import Known, Queue, Unknown
from perdure_scaler.gauges import DemandGauges
from perdure_scaler.reading import DemandReader, slots_of
from perdure_scaler.settings import ScaledQueue, TaskType
from tests.api_stand_in import answered_by
from tests.temporal_server import dev_server

CPU = Queue("default", "perdure-cpu")
HOLD = 60.0
COUNTS_SOON = ['matching.TaskQueueInfoByBuildIdTTL="50ms"']
"""Temporal counts what waits in a queue anew every 5 s by itself."""
PATIENCE_SECONDS = 60
RUNNING = {"containerStatuses": [{"state": {"running": {}}}]}


def pod(slots: str | None, *, status: dict[str, Any] = RUNNING, temporal_namespace: str = "") -> dict[str, Any]:
    annotations = {
        "perdure.dev/slots-used": slots,
        "perdure.dev/temporal-namespace": temporal_namespace,
        "of/others": "x",
    }
    return {"metadata": {"name": "w", "annotations": {k: v for k, v in annotations.items() if v}}, "status": status}


@pytest.mark.parametrize(
    ("document", "slots"),
    [
        pytest.param(pod('{"perdure-cpu": 3, "x": 0}'), {CPU: 3, Queue("default", "x"): 0}, id="busy"),
        pytest.param(pod(None), {}, id="nothing said yet"),
        pytest.param({"metadata": {"name": "w"}}, {}, id="just created"),
        pytest.param(
            pod('{"perdure-cpu": 3}', temporal_namespace="other"), {Queue("other", "perdure-cpu"): 3}, id="elsewhere"
        ),
        pytest.param(
            pod('{"perdure-cpu": 3}', status={"containerStatuses": [{"state": {"terminated": {}}}]}), {}, id="ended"
        ),
        pytest.param(
            pod('{"perdure-cpu": 3}', status={"containerStatuses": [{"state": {"waiting": {}}}]}), {}, id="crashed"
        ),
    ],
)
def test_a_pods_slots_are_those_of_a_process_that_runs(document: dict[str, Any], slots: dict[Queue, int]) -> None:
    assert slots_of(document, "default") == slots


def test_an_annotation_of_somebody_elses_hand_is_named_with_its_pod() -> None:
    with pytest.raises(SlotsUnreadable, match=r"annotation perdure.dev/slots-used of pod w: found 'three'"):
        slots_of(pod("three"), "default")


@dataclass
class Pods:
    """So much of an API server as lists pods."""

    items: list[dict[str, Any]] = field(default_factory=list)
    is_away: bool = False
    asked: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Cluster]:
        async with answered_by(self._list, method="GET") as cluster:
            yield cluster

    async def _list(self, request: web.Request) -> web.Response:
        self.asked.append(f"{request.path}?{request.query['labelSelector']}")
        if self.is_away:
            return web.json_response({"message": "away"}, status=503)
        return web.json_response({"items": self.items})


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def reader(client: Client, cluster: Cluster, clock: Callable[[], float], *queues: ScaledQueue) -> DemandReader:
    return DemandReader(
        client,
        cluster,
        queues or (ScaledQueue(CPU),),
        namespace="perdure",
        workers="app=worker",
        temporal_namespace="default",
        hold_seconds=HOLD,
        clock=clock,
    )


async def nobody() -> Client:
    """A client of a Temporal that is not there."""
    return await connect("127.0.0.1:1", "default", identity="test", lazy=True)


async def test_the_slots_of_all_pods_are_summed() -> None:
    pods = Pods([pod('{"perdure-cpu": 3}'), pod('{"perdure-cpu": 4, "x": 9}'), pod(None)])
    async with pods.serving() as cluster:
        reads = reader(await nobody(), cluster, Clock())
        await reads.read_slots()

    assert reads._readings[CPU].slots.last
    assert reads._readings[CPU].slots.last.count == 7
    assert pods.asked == ["/api/v1/namespaces/perdure/pods?app=worker"]


@pytest.mark.parametrize("trouble", ["away", "unreadable"])
async def test_slots_that_cannot_be_read_stay_as_they_were_and_it_is_said(trouble: str) -> None:
    pods = Pods([pod('{"perdure-cpu": 3}')])
    async with pods.serving() as cluster:
        reads = reader(await nobody(), cluster, Clock())
        await reads.read_slots()
        assert reads.pods_problem() is None

        pods.is_away = trouble == "away"
        pods.items.append(pod("nonsense"))
        await reads.read_slots()

    assert {"away": "no list of pods: away", "unreadable": "of pod w"}[trouble] in (reads.pods_problem() or "")
    assert reads._readings[CPU].slots.last
    assert reads._readings[CPU].slots.last.count == 3


async def test_a_temporal_that_never_answered_makes_the_demand_unknown() -> None:
    pods = Pods()
    async with pods.serving() as cluster:
        reads = reader(await nobody(), cluster, Clock())
        await asyncio.gather(reads.read_slots(), reads.read_backlog(ScaledQueue(CPU)))

    demand = reads.demand(CPU)
    assert isinstance(demand, Unknown)
    assert "Its backlog: no answer from Temporal" in demand.why
    assert "no answer from Temporal" in (reads.temporal_problem() or "")


async def test_what_is_not_known_is_no_sample_for_prometheus() -> None:
    demands: dict[Queue, Known | Unknown] = {CPU: Known(2, 3), Queue("default", "x"): Unknown("why")}
    registry = CollectorRegistry()
    registry.register(DemandGauges([ScaledQueue(queue) for queue in demands], demands.__getitem__))

    samples = [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]

    labels = {name: f'{{queue="{name}",temporal_namespace="default"}}' for name in ("perdure-cpu", "x")}
    assert samples == [
        f"perdure_task_queue_demand{labels['perdure-cpu']} 5.0",
        f"perdure_task_queue_backlog{labels['perdure-cpu']} 2.0",
        f"perdure_task_queue_slots_used{labels['perdure-cpu']} 3.0",
        f"perdure_task_queue_demand_known{labels['perdure-cpu']} 1.0",
        f"perdure_task_queue_demand_known{labels['x']} 0.0",
    ]


@workflow.defn
class Nothing:
    @workflow.run
    async def run(self) -> None: ...


@pytest.mark.temporal
async def test_a_real_backlog_is_seen_and_its_end_too() -> None:
    """N tasks that wait, with and without priorities; then none; a queue that nobody ever used; a namespace that is
    not there; and all gone.
    """
    unused, nowhere = ScaledQueue(Queue("default", "unused")), ScaledQueue(Queue("nowhere", "perdure-cpu"))
    workflows = ScaledQueue(CPU, (TaskType.WORKFLOW,))
    clock, pods = Clock(), Pods([pod('{"perdure-cpu": 2}')])
    async with pods.serving() as cluster:
        async with dev_server(*COUNTS_SOON) as client:
            reads = reader(
                await connect(client.service_client.config.target_host, "default", identity="test"),
                cluster,
                clock,
                workflows,
                unused,
                nowhere,
            )
            for number, priority in enumerate((None, 1, 2, 3, 4, 5, 5)):
                await client.start_workflow(
                    Nothing.run,
                    id=f"nothing-{number}",
                    task_queue=CPU.name,
                    priority=Priority(priority_key=priority),
                )
            await _until(reads, clock, workflows, Known(7, 2))

            async with Worker(
                client, task_queue=CPU.name, workflows=[Nothing], workflow_runner=UnsandboxedWorkflowRunner()
            ):
                await _until(reads, clock, workflows, Known(0, 2))
            for _ in range(2):
                await reads.read_backlog(unused)
                await reads.read_backlog(nowhere)
            assert reads.demand(unused.queue) == Known(0, 0)
            not_there = reads.demand(nowhere.queue)
            assert isinstance(not_there, Unknown)
            assert "nowhere" in not_there.why.lower()
        clock.now += HOLD
        await reads.read_backlog(workflows)
        await reads.read_slots()
        assert reads.demand(CPU) == Known(0, 2)
        clock.now += 1
        assert isinstance(reads.demand(CPU), Unknown)


@workflow.defn
class Ask:
    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity("ask", task_queue="perdure-cpu.ask", start_to_close_timeout=timedelta(days=1))


@pytest.mark.temporal
async def test_what_waits_for_an_activity_that_is_held_back_is_seen_too() -> None:
    pool = ScaledQueue(CPU, guarded=("perdure-cpu.ask",))
    async with (
        Pods().serving() as cluster,
        dev_server(*COUNTS_SOON) as client,
        Worker(client, task_queue=CPU.name, workflows=[Ask], workflow_runner=UnsandboxedWorkflowRunner()),
    ):
        for number in range(3):
            await client.start_workflow(Ask.run, id=f"ask-{number}", task_queue=CPU.name)

        await _until(reader(client, cluster, clock := Clock(), pool), clock, pool, Known(3, 0))


@pytest.mark.temporal
async def test_what_waits_for_a_version_of_the_workers_is_seen_too() -> None:
    """Tasks of a version wait in a queue of their own, behind the one that is asked for."""
    workflows = ScaledQueue(CPU, (TaskType.WORKFLOW,))
    version = WorkerDeploymentVersion("perdure", "one")
    pinned = WorkerDeploymentConfig(
        version=version, use_worker_versioning=True, default_versioning_behavior=VersioningBehavior.PINNED
    )
    make_current = SetWorkerDeploymentCurrentVersionRequest(
        namespace="default", deployment_name="perdure", build_id="one", identity="test"
    )
    async with Pods().serving() as cluster, dev_server(*COUNTS_SOON) as client:
        clock = Clock()
        async with Worker(
            client,
            task_queue=CPU.name,
            workflows=[Nothing],
            workflow_runner=UnsandboxedWorkflowRunner(),
            deployment_config=pinned,
        ):
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not await _is_done(client.workflow_service.set_worker_deployment_current_version(make_current)):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            await client.execute_workflow(Nothing.run, id="nothing", task_queue=CPU.name)
        reads = reader(client, cluster, clock, workflows)

        for number in range(5):
            await client.start_workflow(Nothing.run, id=f"nothing-{number}", task_queue=CPU.name)

        await _until(reads, clock, workflows, Known(5, 0))


async def _is_done(call: Awaitable[object]) -> bool:
    """Temporal knows a version only some time after its first worker came."""
    try:
        await call
    except RPCError:
        return False
    return True


async def _until(reads: DemandReader, clock: Clock, scaled: ScaledQueue, expected: Known) -> None:
    """Reads until the demand is as expected."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while reads.demand(scaled.queue) != expected:
            clock.now += 1
            await reads.read_backlog(scaled)
            await reads.read_slots()
            await asyncio.sleep(0.05)
