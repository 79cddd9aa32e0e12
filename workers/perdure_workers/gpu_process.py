"""One worker process of the GPU pool: its models, its Temporal worker, its health. Made here, closed here.

It asks nothing of Kubernetes but to say on its own pod how many slots are in use, and that only where it is to.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from functools import partial
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector
from temporalio.client import Client
from temporalio.worker import Worker

from perdure_api import names
from perdure_control.cluster import Cluster
from perdure_control.health import Check, Checks, serve_health
from perdure_control.requests import KubernetesRequests
from perdure_control.temporal import Connection, Place, Reachability
from perdure_data.models import ModelUse
from perdure_data.stores import Stores
from perdure_documents.reader import DocumentReader
from perdure_inference.engine import Engine
from perdure_inference.models import Models
from perdure_workers.activities.inference import InferenceActivities
from perdure_workers.data_worker import data_worker, missing_library
from perdure_workers.log_context import LogContext
from perdure_workers.process import COMPONENT, connect_temporal, lasting_tasks, use_client
from perdure_workers.settings import WorkerSettings
from perdure_workers.slots import OwnPod, SlotsInUse, SlotsTold

_FINISH_SHARE: Final = 0.8
"""Of the grace period: so long may a piece of work go on; the rest is for handing over what has been done."""

log = structlog.get_logger(__name__)


async def run_gpu_worker(settings: WorkerSettings) -> None:
    """Runs until cancelled; running activities then finish, or hand over what they have done."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    async with contextlib.AsyncExitStack() as stack:
        polling: list[Worker] = []
        temporal = Reachability()
        place = Place(settings.temporal_address, settings.temporal_namespace, settings.temporal_credentials)
        connection = Connection(place, identity=settings.pod_name)
        checks = _checks(polling, temporal, connection if place.files.tls else None)
        await stack.enter_async_context(serve_health(settings.http_port, checks, registry))
        lasting = await stack.enter_async_context(lasting_tasks())

        stores = Stores()
        engine = stack.enter_context(Engine(Models(stores, settings.models_folder, settings.models_kept)))
        for uri in settings.models_loaded_first:
            await engine.load(partial(_load, uri))

        slots = SlotsInUse()
        slots.register(registry)
        client = await connect_temporal(connection, place.address)
        lasting(temporal.ask_for_ever(connection))
        workers = [gpu_worker(client, engine, stores, settings, slots)]
        if missing := missing_library():
            log.warning("data_work_not_served", queue=names.TASK_QUEUE_DATA, missing=missing)
        else:
            reader = stack.enter_context(contextlib.closing(DocumentReader()))
            workers.append(data_worker(client, stores, reader, settings, slots))
        if settings.publish_slots:
            requests = KubernetesRequests(registry)
            cluster = await stack.enter_async_context(await Cluster.connect(COMPONENT, answered=requests.count))
            own_pod = OwnPod(settings.namespace, settings.pod_name, settings.temporal_namespace)
            lasting(SlotsTold(cluster, own_pod, slots).keep())
        for worker in workers:
            polling.append(await stack.enter_async_context(worker))  # noqa: PERF401 - one after the other
        lasting(connection.keep_fresh(partial(use_client, polling)))
        log.info("worker_started", pool=str(settings.pool), slots=settings.slots)
        try:
            await asyncio.Future()
        finally:
            log.info("worker_stopping", grace_seconds=settings.grace_seconds)


def gpu_worker(client: Client, engine: Engine, stores: Stores, settings: WorkerSettings, slots: SlotsInUse) -> Worker:
    """What serves the GPU pool's task queue.

    It has no version, whatever versions there are of the workflows' workers: what is said between them only grows.
    """
    inference = InferenceActivities(engine, stores, _FINISH_SHARE * settings.grace_seconds)
    return Worker(
        client,
        task_queue=names.TASK_QUEUE_GPU,
        activities=[inference.embed_texts, inference.generate],
        interceptors=[LogContext(), slots.counting(names.TASK_QUEUE_GPU, settings.slots)],
        max_concurrent_activities=settings.slots,
        graceful_shutdown_timeout=timedelta(seconds=settings.grace_seconds),
        # What a heartbeat has not told when the process is killed is done again.
        default_heartbeat_throttle_interval=timedelta(seconds=1),
        max_heartbeat_throttle_interval=timedelta(seconds=1),
    )


def _load(uri: str, models: Models) -> None:
    """Has the model of a URI loaded, whichever kind it is."""
    if models.use_of(uri) is ModelUse.GENERATION:
        models.generator(uri, None)
    else:
        models.encoder(uri)


def _checks(polling: list[Worker], temporal: Reachability, connection: Connection | None) -> Checks:
    def polls() -> str | None:
        loaded = "not polling Temporal yet: models are being loaded, or Temporal is away"
        return None if polling and all(worker.is_running for worker in polling) else loaded

    told: dict[str, Check] = {"temporal": lambda: temporal.problem}
    if connection:
        told["temporal credentials"] = lambda: connection.problem
    # Of another name than the CPU pool's: an alert counts those.
    return Checks(live={}, ready={"polling for models": polls}, told=told)
