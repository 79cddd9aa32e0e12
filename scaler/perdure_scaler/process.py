"""One scaler process: its clients, its readings, its two servers. Made here, closed here."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector

from perdure_control.cluster import Cluster, ClusterError
from perdure_control.health import Checks, serve_health
from perdure_control.temporal import Connection, Place
from perdure_control.tls import Certificate
from perdure_scaler.front_proxy import FrontProxy, NoFrontProxy, read_front_proxy
from perdure_scaler.gauges import DemandGauges
from perdure_scaler.metrics_api import MetricsApi
from perdure_scaler.reading import DemandReader
from perdure_scaler.registration import Registration
from perdure_scaler.settings import Settings

COMPONENT: Final = "perdure-scaler"
FRONT_PROXY_LOOK_SECONDS: Final = 60.0
FRONT_PROXY_RETRY_SECONDS: Final = 2.0

log = structlog.get_logger(__name__)


async def run_scaler(settings: Settings) -> None:
    """Runs until cancelled."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    place = Place(settings.temporal_address, settings.temporal_namespace, settings.temporal_credentials)
    connection = Connection(place, identity=socket.gethostname(), lazy=True)
    async with await Cluster.connect(COMPONENT) as cluster:
        reader = DemandReader(
            await connection.open(),
            cluster,
            settings.queues,
            namespace=settings.namespace,
            workers=settings.workers,
            temporal_namespace=settings.temporal_namespace,
            hold_seconds=settings.hold_seconds,
        )
        registry.register(DemandGauges(settings.queues, reader.demand))
        told = {"temporal": reader.temporal_problem, "pods": reader.pods_problem}
        if place.files.tls:
            told["temporal credentials"] = lambda: connection.problem
        server: ApiServer | None = None
        registration: Registration | None = None
        if settings.tls_folder:
            server = ApiServer(MetricsApi(settings.queues, reader.demand), cluster, settings.tls_folder)
            registration = Registration(cluster, settings.namespace, settings.service, server.authority)
            told["registration"] = lambda: registration.problem
        # Without Temporal, or without a list of pods, it still has an answer: that there is none.
        ready = {"api": lambda: server.problem} if server else {}
        async with serve_health(settings.http_port, Checks(live={}, ready=ready, told=told), registry):
            log.info("scaler_started", queues=[scaled.queue.name for scaled in settings.queues])
            async with asyncio.TaskGroup() as group:
                group.create_task(reader.read_for_ever())
                group.create_task(connection.keep_fresh(reader.use))
                if server and registration:
                    group.create_task(server.serve_for_ever(settings.api_port))
                    group.create_task(registration.keep())


class ApiServer:
    """The external metrics API over TLS."""

    def __init__(self, api: MetricsApi, cluster: Cluster, tls_folder: Path) -> None:
        self._api = api
        self._cluster = cluster
        self._folder = tls_folder
        self.problem: str | None = "not served yet"
        """What is wrong; None while it is served."""

    def authority(self) -> str | None:
        """PEM of the authority that signed our certificate; None while there is none."""
        return Certificate(self._folder).authority()

    async def serve_for_ever(self, port: int) -> None:
        """Never returns; end it by cancelling. The server is made anew when the API server gets another authority."""
        front_proxy = await self._front_proxy()
        while True:
            async with self.serving(front_proxy, port):
                front_proxy = await self._another_than(front_proxy)

    @contextlib.asynccontextmanager
    async def serving(self, front_proxy: FrontProxy, port: int, host: str | None = None) -> AsyncIterator[int]:
        """Serves while the context lasts, and tells on which port.

        A server of its own for each authority: a TLS context takes further ones, and lets go of none.
        """
        self.problem = "waits for its certificate"
        certificate = Certificate(self._folder)
        await certificate.arrive()
        front_proxy.demand_of(certificate.context)
        runner = web.AppRunner(self._api.application(front_proxy.welcomes), access_log=None)
        await runner.setup()
        fresh = asyncio.create_task(certificate.keep_fresh())
        try:
            site = web.TCPSite(runner, host, port, ssl_context=certificate.context, reuse_address=True)
            await site.start()
            self.problem = None
            yield int(runner.addresses[0][1])
        finally:
            self.problem = "stopped"
            fresh.cancel()
            await runner.cleanup()

    async def _front_proxy(self) -> FrontProxy:
        while True:
            try:
                return await read_front_proxy(self._cluster)
            except ClusterError as error:
                self.problem = f"the API server's authority is not known: {error.message}"
            except NoFrontProxy as error:
                self.problem = str(error)
            log.warning("front_proxy_unknown", why=self.problem)
            await asyncio.sleep(FRONT_PROXY_RETRY_SECONDS)

    async def _another_than(self, known: FrontProxy) -> FrontProxy:
        """The next one that is published; what cannot be read now leaves the known one good."""
        while True:
            await asyncio.sleep(FRONT_PROXY_LOOK_SECONDS)
            try:
                found = await read_front_proxy(self._cluster)
            except (ClusterError, NoFrontProxy) as error:
                log.warning("front_proxy_unknown", why=str(error))
                continue
            if found != known:
                log.info("front_proxy_changed")
                return found
