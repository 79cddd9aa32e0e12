"""Puts one operator process together, runs it, and takes it apart."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import kopf
import structlog
import uvloop
from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics
from temporalio.client import Client

from perdure_api import names
from perdure_control.cluster import Cluster, ClusterError, NotFound
from perdure_control.credentials import CredentialsError
from perdure_control.health import Checks, serve_health
from perdure_control.logs import configure_logs
from perdure_control.requests import KubernetesRequests
from perdure_control.settings import SettingsError
from perdure_control.statuses import TRAINING_JOBS, EventSource
from perdure_control.temporal import Connection, Place
from perdure_operator import workflows
from perdure_operator.drift import FailingWorkflows, Rhythm, WatchDrift, WorkflowDrift
from perdure_operator.handlers import kopf_settings, make_registry, quiet_kopf
from perdure_operator.metrics import GaugeCollector, Gauges, make_metrics
from perdure_operator.no_versions import NoVersions
from perdure_operator.objects import TrainingJobs
from perdure_operator.queue import ReconcileQueue
from perdure_operator.receiver_secret import ReceiverSecret
from perdure_operator.reconciler import Reconciler
from perdure_operator.services import Patience, Services
from perdure_operator.settings import Settings, settings_from
from perdure_operator.tracker import Tracker
from perdure_operator.turns import Turns
from perdure_operator.version_keeper import VersionKeeper
from perdure_operator.worker_versions import WorkerVersions

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_NAME: Final = "perdure-operator"
_WORKERS: Final = 30
"""Objects looked at at a time. More in flight make a burst slower, not faster: they only queue in Temporal."""
_SERVED_RETRY_SECONDS: Final = 2.0
_EXIT_USAGE: Final = 64


def main() -> int:
    """Runs an operator until it is told to stop.

    Returns:
        The exit status: 0 when told to stop, 64 when its settings make no sense, 1 when it cannot go on.
    """
    try:
        settings = settings_from(os.environ)
        settings.temporal_credentials.read(settings.temporal_address)
    except (SettingsError, CredentialsError) as error:
        sys.stderr.write(f"{error}\n")
        return _EXIT_USAGE
    configure_logs(settings.log_level)
    disable_created_metrics()  # type: ignore[no-untyped-call]
    quiet_kopf()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(operate(settings))
    except asyncio.CancelledError:
        return 0  # told to stop before there was anything to watch
    except Exception:
        log.exception("operator_failed")
        return 1
    return 0


async def operate(settings: Settings, *, patience: Patience | None = None, rhythm: Rhythm | None = None) -> None:
    """Operates until told to stop.

    Args:
        settings: From the environment.
        patience: How long what looks wrong is waited for.
        rhythm: How often is compared.
    """
    _stop_on_signals()
    connection = workflows.connection(
        Place(settings.temporal_address, settings.temporal_namespace, settings.temporal_credentials)
    )
    await connection.open()
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    requests = KubernetesRequests(registry)
    async with await Cluster.connect(_NAME, answered=requests.count) as cluster:
        parts = _assemble(settings, cluster, connection, registry, patience or Patience(), rhythm or Rhythm())
        async with serve_health(settings.http_port, parts.checks, registry):
            await _wait_until_served(cluster, settings.watched_namespaces)
            async with asyncio.TaskGroup() as group:
                # All before kopf: it ends every task that began after it, and not those that were there.
                tasks = [group.create_task(service()) for service in parts.services]
                await asyncio.sleep(0)
                await _watch(settings, make_registry(parts.tracker, parts.queue))
                for task in tasks:
                    task.cancel()
    log.info("operator_stopped")


@dataclass(frozen=True)
class _Parts:
    """What a running operator consists of, beside kopf."""

    tracker: Tracker
    queue: ReconcileQueue
    services: list[Callable[[], Coroutine[None, None, None]]]
    """Each runs for as long as the operator does, once there is something to watch."""
    checks: Checks


def _assemble(
    settings: Settings,
    cluster: Cluster,
    connection: Connection,
    registry: CollectorRegistry,
    patience: Patience,
    rhythm: Rhythm,
) -> _Parts:
    metrics = make_metrics(registry)
    tracker = Tracker()
    queue = ReconcileQueue(workers=_WORKERS)
    objects = TrainingJobs(cluster, EventSource(component=_NAME, instance=socket.gethostname()))
    temporal = workflows.Workflows(connection.client)
    turns = Turns(settings.limits, tracker, queue)
    services = Services(objects, temporal, tracker, queue, turns, metrics, settings.temporal_address, patience)
    reconciler = Reconciler(services)
    watch = WatchDrift(services, rhythm, settings.watched_namespaces)
    secrets = {
        f"{server} certificate": ReceiverSecret(cluster, settings.namespace, kept)
        for server, kept in (("progress", settings.receiver), ("scaler", settings.scaler))
        if kept
    }
    worker_versions = WorkerVersions(connection.client)

    def use(client: Client) -> None:
        temporal.use(client)
        worker_versions.use(client)

    versions = (
        VersionKeeper(cluster, worker_versions, settings.namespace, settings.worker_pattern)
        if settings.worker_pattern
        else None
    )
    registry.register(
        GaugeCollector(
            Gauges(
                tracker,
                settings.limits,
                lambda: len(queue),
                lambda: temporal.problem is None,
                watch.seconds_ago,
                versions.states if versions else dict,
            )
        )
    )
    return _Parts(
        tracker=tracker,
        queue=queue,
        services=[
            partial(queue.run, reconciler.reconcile),
            partial(temporal.probe, reconciler.temporal_is_back),
            partial(connection.keep_fresh, use),
            turns.run,
            WorkflowDrift(services, rhythm).run,
            FailingWorkflows(services, rhythm).run,
            watch.run,
            *(secret.keep for secret in secrets.values()),
            versions.run if versions else NoVersions(worker_versions).run,
        ],
        checks=Checks(
            live={"watch": lambda: watch.problem},
            ready={
                "objects": lambda: None if watch.complete else "TrainingJobs are still being listed",
                # So that `helm upgrade --wait` waits for them: no Deployment of the chart has them.
                **({"workers": lambda: versions.unready} if versions else {}),
            },
            told={
                "temporal": lambda: temporal.problem,
                **({"temporal credentials": lambda: connection.problem} if settings.temporal_credentials.tls else {}),
                **{name: partial(_problem_of, secret) for name, secret in secrets.items()},
                **({"worker version": lambda: versions.problem} if versions else {}),
            },
        ),
    )


def _problem_of(secret: ReceiverSecret) -> str | None:
    return secret.problem


async def _watch(settings: Settings, registry: kopf.OperatorRegistry) -> None:
    """kopf, until it is told to stop."""
    log.info("operator_started", watched_namespaces=settings.watched_namespaces or "all")
    await kopf.operator(
        registry=registry,
        settings=kopf_settings(),
        clusterwide=not settings.watched_namespaces,
        namespaces=settings.watched_namespaces,
    )


async def _wait_until_served(cluster: Cluster, namespaces: Sequence[str]) -> None:
    """Until the API server lists TrainingJobs for us: kopf looks for the CRD once, and would then wait for ever."""
    for namespace in namespaces or (None,):
        while True:
            try:
                await cluster.get(TRAINING_JOBS.path(namespace), limit=1)
            except NotFound:
                log.warning("waiting_for_crd", crd=f"{names.PLURAL}.{names.GROUP}")
            except ClusterError as error:
                log.warning("waiting_for_api_server", error=error.message, status=error.status)
            else:
                break
            await asyncio.sleep(_SERVED_RETRY_SECONDS)


def _stop_on_signals() -> None:
    """Stops on SIGTERM and SIGINT also before kopf runs, which then answers them itself."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    if task is not None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
