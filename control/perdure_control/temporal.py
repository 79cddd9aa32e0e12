"""One way to connect to Temporal, the same for operator and workers."""

from __future__ import annotations

import logging
from functools import cache

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.runtime import LogForwardingConfig, LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter
from temporalio.service import RetryConfig


async def connect(
    address: str, namespace: str, *, identity: str, lazy: bool = False, retry_config: RetryConfig | None = None
) -> Client:
    """A client.

    Args:
        address: `host:port` of a frontend.
        namespace: Temporal's, not Kubernetes'.
        identity: Who we are in histories.
        lazy: Connect with the first call instead of now.
        retry_config: How long calls are tried again; None: as the SDK does.

    Raises:
        RuntimeError: Temporal cannot be reached (never when lazy).
    """
    return await Client.connect(
        address,
        namespace=namespace,
        data_converter=pydantic_data_converter,
        identity=identity,
        lazy=lazy,
        retry_config=retry_config,
        runtime=_runtime(),
    )


@cache
def _runtime() -> Runtime:
    """The SDK's core, its logs sent through Python's logging: by itself it writes coloured text between our JSON.

    One for the process, as the SDK wants it.
    """
    logging_config = LoggingConfig(
        filter=TelemetryFilter(core_level="WARN", other_level="ERROR"),
        forwarding=LogForwardingConfig(logger=logging.getLogger("temporal")),
    )
    return Runtime(telemetry=TelemetryConfig(logging=logging_config))
