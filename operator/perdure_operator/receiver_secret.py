"""Keeps the Secret of the progress receiver, or of the scaler, filled with good certificates.

The Secret itself is made by whoever installs Perdure, and empty: so the operator needs to touch one Secret by its
name, and may not create any.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import random
from datetime import UTC, datetime
from typing import Final

import structlog

from perdure_control.cluster import MERGE_PATCH, SECRETS, Cluster, ClusterError, Conflict
from perdure_operator import certificates
from perdure_operator.settings import ReceiverSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_CHECK_SECONDS: Final = 86_400.0
_FIRST_RETRY_SECONDS: Final = 1.0
_LONGEST_RETRY_SECONDS: Final = 60.0


class ReceiverSecret:
    """The Secret."""

    def __init__(self, cluster: Cluster, namespace: str, settings: ReceiverSettings) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._settings = settings
        self._problem: str | None = "the certificate was not looked at yet"

    @property
    def problem(self) -> str | None:
        """What is wrong with it; None when it is good."""
        return self._problem

    async def keep(self) -> None:
        """Looks after it for ever: daily, and again soon where that fails."""
        retry_seconds = _FIRST_RETRY_SECONDS
        while True:
            try:
                await self.renew(datetime.now(UTC))
            except ClusterError as error:
                self._problem = f"Secret {self._namespace}/{self._settings.secret}: {error.message}"
                log.warning("receiver_secret_not_kept", error=error.message, status=error.status)
                await asyncio.sleep(retry_seconds)
                retry_seconds = min(retry_seconds * 2, _LONGEST_RETRY_SECONDS)
            else:
                retry_seconds = _FIRST_RETRY_SECONDS
                await asyncio.sleep(_CHECK_SECONDS * random.uniform(0.9, 1.0))  # noqa: S311 - jitter, no secret

    async def renew(self, now: datetime) -> bool:
        """Fills or renews it where that is due.

        Returns:
            Whether something was written.

        Raises:
            ClusterError: the API server is away or refuses; NotFound: the installation did not make the Secret.
        """
        path = SECRETS.path(self._namespace, self._settings.secret)
        secret = await self._cluster.get(path)
        names = certificates.service_names(self._settings.service, self._namespace)
        bundle = certificates.renewed(_decoded(secret.get("data") or {}), names, now)
        if bundle is not None:
            # The version makes it conditional: of two operators, one signs and the other reads what was signed.
            body = {
                "metadata": {"resourceVersion": secret["metadata"]["resourceVersion"]},
                "data": {key: base64.b64encode(value).decode() for key, value in bundle.to_data().items()},
            }
            try:
                await self._cluster.patch(path, body, content_type=MERGE_PATCH)
            except Conflict:
                return await self.renew(now)
            log.info("receiver_certificate_written", secret=self._settings.secret)
        self._problem = None
        return bundle is not None


def _decoded(data: dict[str, str]) -> dict[str, bytes]:
    decoded = {}
    for key, value in data.items():
        try:
            decoded[key] = base64.b64decode(value)
        except binascii.Error:
            continue
    return decoded
