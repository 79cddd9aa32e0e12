"""How to connect to Temporal: one way for operator and workers, one for people's commands."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from functools import cache
from typing import Final

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfigProfile
from temporalio.runtime import LogForwardingConfig, LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter
from temporalio.service import RetryConfig, RPCError

DEFAULT_ADDRESS: Final = "localhost:7233"
"""Temporal's own default."""

_ASK_SECONDS: Final = 15.0
_ANSWER_SECONDS: Final = 5.0


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


async def connect_as_told(profile: ClientConfigProfile, *, identity: str, seconds: float) -> Client:
    """A client for a person's command, by what Temporal's own command line reads: TEMPORAL_* and its profiles.

    Args:
        profile: Address, namespace, key and certificates.
        identity: Who it is in histories.
        seconds: For so long an answer is waited for.

    Raises:
        RuntimeError: Temporal cannot be reached, or does not let this user.
        TimeoutError: it does not answer.
    """
    told = profile.to_client_connect_config()
    async with asyncio.timeout(seconds):
        return await Client.connect(
            told.get("target_host", DEFAULT_ADDRESS),
            namespace=told.get("namespace", "default"),
            api_key=told.get("api_key"),
            tls=told.get("tls"),
            rpc_metadata=told.get("rpc_metadata", {}),
            data_converter=pydantic_data_converter,
            identity=identity,
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


class Reachability:
    """Whether Temporal answers, asked now and then: a worker goes on polling without a word while it does not."""

    def __init__(self) -> None:
        self.problem: str | None = "not asked yet"
        """What is wrong; None when nothing is."""

    async def ask_for_ever(self, client: Client, seconds: float = _ASK_SECONDS) -> None:
        """Asks, and pauses."""
        while True:
            await self.ask(client)
            await asyncio.sleep(seconds)

    async def ask(self, client: Client) -> None:
        """Asks once."""
        try:
            # The call's own timeout does not count while the SDK connects anew.
            async with asyncio.timeout(_ANSWER_SECONDS):
                await client.service_client.check_health(timeout=timedelta(seconds=_ANSWER_SECONDS))
        except TimeoutError:
            self.problem = f"no answer within {_ANSWER_SECONDS:.0f} s"
        except (RPCError, RuntimeError) as error:
            self.problem = f"no answer: {error}"
        else:
            self.problem = None
