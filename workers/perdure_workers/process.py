"""One worker process: its clients, its informers, its Temporal workers, its two servers. Made here, closed here."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Final

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector
from temporalio.client import Client
from temporalio.common import VersioningBehavior
from temporalio.worker import FixedSizeSlotSupplier, Worker, WorkerDeploymentConfig, WorkerTuner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from perdure_api import names
from perdure_control.cluster import JOBS, PODS, Cluster
from perdure_control.credentials import CredentialsError
from perdure_control.factory.registry import Registry
from perdure_control.health import Check, Checks, serve_health
from perdure_control.requests import KubernetesRequests
from perdure_control.statuses import EventSource, record_event
from perdure_control.temporal import Connection, Place, Reachability
from perdure_control.tls import Certificate
from perdure_data.stores import Stores
from perdure_workers.activities.monitoring import MonitorActivities
from perdure_workers.activities.publishing import PublishingActivities
from perdure_workers.activities.purging import PurgingActivities
from perdure_workers.activities.resources import ResourceActivities
from perdure_workers.activities.room import RoomActivities
from perdure_workers.activities.storage import StorageActivities
from perdure_workers.activities.texts import TextActivities
from perdure_workers.activities.training_jobs import TrainingJobActivities
from perdure_workers.breakers.board import Breakers
from perdure_workers.dead_letters.keeper import DeadLetterKeeper
from perdure_workers.extensions import Extensions, tell, usable
from perdure_workers.log_context import LogContext
from perdure_workers.manifests import PodDefaults
from perdure_workers.metrics import GaugeCollector, Gauges, attempts_ended
from perdure_workers.progress.board import ProgressBoard
from perdure_workers.progress.identity import Identifier
from perdure_workers.progress.receiver import ProgressReceiver
from perdure_workers.progress.writer import ProgressWriter
from perdure_workers.settings import WorkerSettings
from perdure_workers.slots import OwnPod, SlotsInUse, SlotsTold
from perdure_workers.watching.index import AttemptIndex
from perdure_workers.watching.informer import Informer, Sink
from perdure_workers.workflow_slots import WorkflowSlots
from perdure_workers.workflows.batch_embed import BatchEmbedWorkflow
from perdure_workers.workflows.dead_letter import DeadLetterWorkflow, MovingDeadLetterWorkflow
from perdure_workers.workflows.document_ingest import DocumentIngestWorkflow
from perdure_workers.workflows.evaluation import EvalWorkflow
from perdure_workers.workflows.fine_tune import FineTuneWorkflow
from perdure_workers.workflows.prepare_and_infer import PrepareAndInferWorkflow
from perdure_workers.workflows.purge import MovingPurgeWorkflow, PurgeWorkflow
from perdure_workers.workflows.search import SearchWorkflow
from perdure_workers.workflows.training import TrainingWorkflow

COMPONENT: Final = "perdure-worker"
_CONNECT_PAUSE_SECONDS: Final = 2.0
PASSED_THROUGH: Final = ("perdure_api", "perdure_workers", "perdure_control", "pydantic", "pydantic_core", "structlog")
"""Imported once instead of for each workflow: re-importing is most of what the sandbox costs."""
_OF_BOTH: Final = (
    TrainingWorkflow,
    FineTuneWorkflow,
    PrepareAndInferWorkflow,
    BatchEmbedWorkflow,
    DocumentIngestWorkflow,
    SearchWorkflow,
    EvalWorkflow,
)
WORKFLOWS: Final = (*_OF_BOTH, PurgeWorkflow, DeadLetterWorkflow)
VERSIONED_WORKFLOWS: Final = (*_OF_BOTH, MovingPurgeWorkflow, MovingDeadLetterWorkflow)
"""The same, of workers that have a version: a workflow stays with the one that it began on, but for those that last as
long as somebody else makes them wait."""

log = structlog.get_logger(__name__)


def sandbox() -> SandboxedWorkflowRunner:
    """What workflows run in. Those of others are kept from clocks and chance; ours are shared, and looked through."""
    return SandboxedWorkflowRunner(restrictions=SandboxRestrictions.default.with_passthrough_modules(*PASSED_THROUGH))


async def connect_temporal(connection: Connection, address: str) -> Client:
    """The first client of a connection, however long Temporal is away, or does not let us in."""
    while True:
        try:
            return await connection.open()
        except (RuntimeError, CredentialsError) as error:
            log.warning("temporal_unavailable", address=address, error=str(error))
            await asyncio.sleep(_CONNECT_PAUSE_SECONDS)


async def run_worker(settings: WorkerSettings, workflows: Registry) -> None:
    """Runs until cancelled; running activities then get their time to end.

    Args:
        settings: Of this process.
        workflows: Those of other packages are carried out beside Perdure's own.
    """
    extensions = usable(workflows, sandbox())
    tell(extensions)
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    async with contextlib.AsyncExitStack() as stack:
        requests = KubernetesRequests(registry)
        cluster = await stack.enter_async_context(await Cluster.connect(COMPONENT, answered=requests.count))
        index = AttemptIndex()
        informers = _informers(cluster, index, settings)
        polling: list[Worker] = []
        temporal = Reachability()
        place = Place(settings.temporal_address, settings.temporal_namespace, settings.temporal_credentials)
        connection = Connection(place, identity=settings.pod_name)
        keeper = DeadLetterKeeper(lambda: connection.client)
        keeper.register(registry, workflows.entries)
        checks = _checks(informers, polling, temporal, keeper, connection if place.files.tls else None)
        await stack.enter_async_context(serve_health(settings.http_port, checks, registry))
        certificate = Certificate(settings.progress_tls_folder) if settings.progress_tls_folder else None
        registry.register(GaugeCollector(Gauges(index, informers, certificate)))
        lasting = await stack.enter_async_context(lasting_tasks())
        for informer in informers:
            lasting(informer.run())

        board = ProgressBoard()
        writer = ProgressWriter(cluster, board, settings.progress_interval_seconds)
        stack.push_async_callback(writer.close)
        if certificate:
            await certificate.arrive()
            identifier = Identifier(cluster, index.pods.by_uid, time.monotonic)
            record = partial(record_event, cluster, source=_source(settings))
            receiver = ProgressReceiver(
                identifier, board, writer.told, record, index.command, index.jobs.newest, registry
            )
            await stack.enter_async_context(_serve_progress(receiver, certificate, settings.progress_port))
            lasting(certificate.keep_fresh())

        slots = SlotsInUse()
        slots.register(registry)
        client = await connect_temporal(connection, place.address)
        lasting(temporal.ask_for_ever(connection))
        workers = _workers(client, cluster, index, board, writer, certificate, registry, settings, slots, extensions)
        if settings.publish_slots:
            own_pod = OwnPod(settings.namespace, settings.pod_name, settings.temporal_namespace)
            lasting(SlotsTold(cluster, own_pod, slots).keep())
        for worker in workers:
            polling.append(await stack.enter_async_context(worker))  # noqa: PERF401 - one after the other
        lasting(connection.keep_fresh(partial(use_client, polling)))
        lasting(keeper.keep())
        build = settings.version.build_id if settings.version else None
        log.info("worker_started", slots=settings.slots, watch_slots=settings.watch_slots, build=build)
        try:
            await asyncio.Future()
        finally:
            log.info("worker_stopping", grace_seconds=settings.grace_seconds)


def use_client(workers: list[Worker], client: Client) -> None:
    """Lets workers go on with another client; what they have under way ends on the one before."""
    for worker in workers:
        # One that is ending takes none.
        if worker.is_running:
            worker.client = client


def _checks(
    informers: list[Informer],
    polling: list[Worker],
    temporal: Reachability,
    keeper: DeadLetterKeeper,
    connection: Connection | None,
) -> Checks:
    """What is asked and told; of credentials only with a connection that has any."""

    def polls() -> str | None:
        return None if polling and all(worker.is_running for worker in polling) else "not polling Temporal yet"

    def watch() -> str | None:
        return None if all(informer.synced for informer in informers) else "Jobs and pods are not listed yet"

    # A worker that does not reach Temporal still takes the reports of training pods: it stays ready.
    told: dict[str, Check] = {"temporal": lambda: temporal.problem, "dead letters": lambda: keeper.problem}
    if connection:
        told["temporal credentials"] = lambda: connection.problem
    return Checks(live={}, ready={"polling": polls, "watch": watch}, told=told)


def _informers(cluster: Cluster, index: AttemptIndex, settings: WorkerSettings) -> list[Informer]:
    selector = f"{names.LABEL_MANAGED_BY}={names.MANAGED_BY},{names.LABEL_JOB_UID}"
    namespaces = settings.watch_namespaces or (None,)
    sinks: list[tuple[str, Sink]] = [
        *((JOBS.path(namespace), index.jobs.of_namespace(namespace)) for namespace in namespaces),
        *((PODS.path(namespace), index.pods.of_namespace(namespace)) for namespace in namespaces),
    ]
    return [Informer(cluster, path, sink, label_selector=selector) for path, sink in sinks]


def _source(settings: WorkerSettings) -> EventSource:
    return EventSource(COMPONENT, settings.pod_name)


def _workers(  # noqa: PLR0913, PLR0917 - what a process is made of comes together here
    client: Client,
    cluster: Cluster,
    index: AttemptIndex,
    board: ProgressBoard,
    writer: ProgressWriter,
    certificate: Certificate | None,
    registry: CollectorRegistry,
    settings: WorkerSettings,
    slots: SlotsInUse,
    extensions: Extensions,
) -> list[Worker]:
    """The CPU pool's worker, the one that watches (a queue of its own, since monitors last hours), and the guarded."""

    def defaults() -> PodDefaults:
        return PodDefaults(
            trainer_image=settings.trainer_image,
            trainer_image_pull_policy=settings.trainer_image_pull_policy,
            store_env=settings.store_env,
            store_secret=settings.store_secret,
            progress_url=settings.progress_url,
            progress_ca=certificate.authority() if certificate else None,
            image_pull_secrets=settings.image_pull_secrets,
            egress=settings.training_egress,
        )

    source = _source(settings)
    ended = attempts_ended(registry)
    resources = ResourceActivities(cluster, defaults, partial(record_event, cluster, source=source))
    stores = Stores()
    storage = StorageActivities(stores)
    training_jobs = TrainingJobActivities(cluster)
    breakers = Breakers(extensions.activities, extensions.breakers)
    breakers.register(registry)
    counted = [LogContext(), slots.counting(names.TASK_QUEUE_CPU, settings.slots)]
    cpu = Worker(
        client,
        task_queue=names.TASK_QUEUE_CPU,
        workflows=[*(VERSIONED_WORKFLOWS if settings.version else WORKFLOWS), *extensions.workflows],
        activities=[
            resources.create_training_job,
            resources.cleanup_resources,
            resources.command_attempt,
            resources.find_attempts,
            PublishingActivities(cluster, source).publish_status,
            storage.check_inputs,
            storage.collect_result,
            PurgingActivities(stores).delete_checkpoints,
            training_jobs.submit_training_job,
            training_jobs.cancel_training_job,
            TextActivities(stores).survey_texts,
            *extensions.activities,
        ],
        # Ours are all asynchronous; those of other packages need not be.
        activity_executor=ThreadPoolExecutor(settings.slots, "activity"),
        interceptors=[*counted, breakers.routing()],
        workflow_runner=sandbox(),
        tuner=WorkerTuner.create_composite(
            workflow_supplier=WorkflowSlots(max(2, settings.slots)),
            activity_supplier=FixedSizeSlotSupplier(settings.slots),
            local_activity_supplier=FixedSizeSlotSupplier(4 * settings.slots),
            nexus_supplier=FixedSizeSlotSupplier(1),
        ),
        graceful_shutdown_timeout=timedelta(seconds=settings.grace_seconds),
        deployment_config=deployment_config(settings),
    )
    watch = Worker(
        client,
        task_queue=names.TASK_QUEUE_WATCH,
        activities=[
            MonitorActivities(cluster, index, board, writer, source, stores, ended).monitor_training,
            RoomActivities(cluster, index, defaults).await_room,
            training_jobs.follow_training_job,
        ],
        interceptors=[LogContext()],
        max_concurrent_activities=settings.watch_slots,
        graceful_shutdown_timeout=timedelta(seconds=settings.grace_seconds),
        # Heartbeats are for taking over from a dead worker, not for progress: seldom is enough.
        default_heartbeat_throttle_interval=timedelta(seconds=20),
        max_heartbeat_throttle_interval=timedelta(seconds=20),
        # The same version as the other's: what a pinned workflow has watched goes to workers of its own version.
        deployment_config=deployment_config(settings),
    )
    guarded = breakers.workers(client, settings.slots, counted, settings.grace_seconds, deployment_config(settings))
    return [cpu, watch, *guarded]


def deployment_config(settings: WorkerSettings) -> WorkerDeploymentConfig | None:
    """How Temporal tells versions of workers apart; None: not at all.

    A workflow stays with the version that it began on, unless its class says otherwise.
    """
    if settings.version is None:
        return None
    return WorkerDeploymentConfig(
        version=settings.version,
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.PINNED,
    )


@contextlib.asynccontextmanager
async def _serve_progress(receiver: ProgressReceiver, certificate: Certificate, port: int) -> AsyncIterator[None]:
    runner = web.AppRunner(receiver.application(), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, port=port, ssl_context=certificate.context).start()
        yield
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def lasting_tasks() -> AsyncIterator[Callable[[Coroutine[object, object, None]], None]]:
    """Starts tasks of the process's whole life. One that fails fails the process: a blind worker is worse than none."""
    started: list[asyncio.Task[None]] = []
    async with asyncio.TaskGroup() as group:

        def start(work: Coroutine[object, object, None]) -> None:
            started.append(group.create_task(work))

        try:
            yield start
        finally:
            for task in started:
                task.cancel()
