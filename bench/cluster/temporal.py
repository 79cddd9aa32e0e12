"""The installed Temporal, reached from the machine that the development cluster runs on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import aiohttp
from temporalio.client import Client

from bench.cluster import requests, usage
from bench.cluster.errors import BenchError
from bench.cluster.installation import SYSTEM, Installation
from perdure_control import temporal

REQUESTS: Final = "service_requests"
"""Temporal's own count of what it was asked, by `operation`."""
_SECONDS: Final = 5.0


async def connect(installation: Installation) -> Client:
    """A client of the Temporal that the workers use.

    Raises:
        BenchError: it is none of the development cluster's Services, or does not answer.
    """
    environment = await installation.environment_of_worker()
    host, _, port = environment["PERDURE_TEMPORAL_ADDRESS"].rpartition(":")
    service = await installation.api.find(f"/api/v1/namespaces/{SYSTEM}/services/{host.split('.')[0]}")
    if service is None:
        raise BenchError(f"found Temporal at {host}, expected a Service of {SYSTEM}; run: make install")
    address = f"{service['spec']['clusterIP']}:{port}"
    namespace = environment.get("PERDURE_TEMPORAL_NAMESPACE", "default")
    try:
        return await temporal.connect(address, namespace, identity="bench")
    except RuntimeError as error:
        raise BenchError(f"Temporal at {address} does not answer ({error}); is its pod ready?") from error


async def asked(installation: Installation) -> dict[str, int]:
    """How often Temporal's frontend was asked each operation since it started; empty when its server does not tell.

    The development server counts on a port that nobody chose: it is looked for among those that it listens on.
    """
    (pod, *_) = await installation.pods_of("temporal")
    ports = _ports(each.pid for each in installation.processes["temporal"])
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS)) as session:
        for port in sorted(ports):
            try:
                async with session.get(f"http://{pod['status']['podIP']}:{port}/metrics") as response:
                    page = await response.text() if response.ok else ""
            except (aiohttp.ClientError, TimeoutError, UnicodeDecodeError):
                continue
            if f"\n{REQUESTS}{{" in page:
                return by_operation(page)
    return {}


def _ports(pids: Iterable[int]) -> set[int]:
    """What the processes' network listens on."""
    tables = [Path(f"/proc/{pid}/net/{table}") for pid in pids for table in ("tcp", "tcp6")]
    return {port for table in tables for port in usage.listening_ports(table.read_text())}


def by_operation(page: str) -> dict[str, int]:
    """What a frontend was asked, by operation, from a page of Temporal's metrics."""
    found: dict[str, int] = {}
    for metric in requests.family(page, REQUESTS):
        for sample in metric.samples:
            if sample.labels.get("service_name") == "frontend":
                operation = sample.labels["operation"]
                found[operation] = found.get(operation, 0) + int(sample.value)
    return found
