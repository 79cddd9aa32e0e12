"""How to connect to Temporal: one way for operator and workers, one for people's commands."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final

import structlog
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfigProfile
from temporalio.runtime import LogForwardingConfig, LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter
from temporalio.service import RetryConfig, RPCError

from perdure_control.credentials import IN_THE_CLEAR, CredentialFiles, Credentials, CredentialsError

log: structlog.stdlib.BoundLogger = structlog.get_logger()

DEFAULT_ADDRESS: Final = "localhost:7233"
"""Temporal's own default."""

_LOOK_SECONDS: Final = 30.0
"""Half of the minute for which a worker's polls are refused before it gives up (sdk-core, LONG_POLL_FATAL_GRACE)."""
_CONNECT_SECONDS: Final = 20.0
_ASK_SECONDS: Final = 15.0
_ANSWER_SECONDS: Final = 5.0


PLAIN: Final = Credentials()
"""In the clear, with nothing to show."""


async def connect(
    address: str,
    namespace: str,
    *,
    identity: str,
    credentials: Credentials = PLAIN,
    lazy: bool = False,
    retry_config: RetryConfig | None = None,
) -> Client:
    """A client.

    Args:
        address: `host:port` of a frontend.
        namespace: Temporal's, not Kubernetes'.
        identity: Who we are in histories.
        credentials: How it is entered.
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
        tls=credentials.tls or False,
        api_key=credentials.api_key,
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


@dataclass(frozen=True)
class Place:
    """A Temporal, and what opens it."""

    address: str
    """`host:port` of a frontend."""
    namespace: str
    """Temporal's, not Kubernetes'."""
    files: CredentialFiles = IN_THE_CLEAR


class Connection:
    """The client of one process, and those that follow it.

    What a client shows of certificates is settled when it connects, so new ones need a new client. New API keys are
    treated alike: that is one way instead of two, and a key that does not open changes nothing.
    """

    def __init__(
        self, place: Place, *, identity: str, lazy: bool = False, retry_config: RetryConfig | None = None
    ) -> None:
        self._place = place
        self._identity = identity
        self._lazy = lazy
        self._retry_config = retry_config
        self._client: Client | None = None
        self._used = PLAIN
        self.problem: str | None = None
        """What is wrong with the credentials, as far as can be seen from here; None when nothing is."""

    @property
    def client(self) -> Client:
        """The newest.

        Raises:
            RuntimeError: there was none yet.
        """
        if self._client is None:
            raise RuntimeError("not connected to Temporal yet")
        return self._client

    async def open(self) -> Client:
        """The first client, by what the files hold now.

        Raises:
            CredentialsError: they cannot be used.
            RuntimeError: Temporal cannot be reached, or does not let us in (never when lazy).
        """
        credentials = self._place.files.read(self._place.address)
        self._client = await self._connect(credentials, lazy=self._lazy)
        self._used = credentials
        self._judge(credentials)
        return self._client

    async def keep_fresh(self, use: Callable[[Client], None]) -> None:
        """Looks for new files for ever; returns only where there are none to look for.

        Args:
            use: Gets each new client, which is connected, and lets go of the one before. Calls that are under way end
                on that.
        """
        while self._place.files.tls:
            await asyncio.sleep(_LOOK_SECONDS)
            await self.look(use)

    async def look(self, use: Callable[[Client], None]) -> None:
        """Looks once. What cannot be used, or does not open, changes nothing: the next look tries again."""
        try:
            # A few kilobytes: cheaper than what times of files do not tell, which are links below a Secret's mount.
            # Certificate and key of two generations, read while they are replaced, do not fit, and wait for a look.
            found = self._place.files.read(self._place.address)
        except CredentialsError as error:
            self._complain(str(error))
            return
        if found != self._used:
            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    client = await self._connect(found, lazy=False)
            except (RuntimeError, TimeoutError) as error:
                self._complain(f"new credentials do not open {self._place.address}: {error or 'no answer in time'}")
                return
            use(client)
            self._client, self._used = client, found
            log.info("temporal_credentials_renewed", address=self._place.address, expires=_date(found.expires))
        self._judge(found)

    async def _connect(self, credentials: Credentials, *, lazy: bool) -> Client:
        return await connect(
            self._place.address,
            self._place.namespace,
            identity=self._identity,
            credentials=credentials,
            lazy=lazy,
            retry_config=self._retry_config,
        )

    def _judge(self, credentials: Credentials) -> None:
        if credentials.expires and credentials.expires < datetime.now(UTC):
            self._complain(
                f"the client certificate for {self._place.address} expired on {_date(credentials.expires)}, expected "
                f"one that is valid; renew it in its Secret, which is read again every {_LOOK_SECONDS:.0f} s"
            )
        else:
            self.problem = None

    def _complain(self, problem: str) -> None:
        if problem != self.problem:
            log.warning("temporal_credentials_not_usable", problem=problem)
        self.problem = problem


def _date(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None


class Reachability:
    """Whether Temporal answers, asked now and then: a worker goes on polling without a word while it does not."""

    def __init__(self) -> None:
        self.problem: str | None = "not asked yet"
        """What is wrong; None when nothing is."""

    async def ask_for_ever(self, connection: Connection, seconds: float = _ASK_SECONDS) -> None:
        """Asks, and pauses."""
        while True:
            await self.ask(connection.client)
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
