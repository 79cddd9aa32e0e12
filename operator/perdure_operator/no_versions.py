"""Where versions of the workers are switched off again: what is new goes to workers without one.

Temporal would else send it to the version that was current last, for ever, and leave the installed workers idle. What
began on a version stays with its workers.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from perdure_operator.versions import WITHOUT_VERSION
from perdure_operator.worker_versions import VersionsUnavailable, WorkerVersions

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_PAUSE_SECONDS: Final = 30.0


class NoVersions:
    """Lets no version be the current one."""

    def __init__(self, temporal: WorkerVersions) -> None:
        self._temporal = temporal

    async def run(self) -> None:
        """Looks for ever."""
        while True:
            try:
                await self.look()
            except VersionsUnavailable as error:
                # Also of a server that knows none: there is nothing to be undone then.
                log.debug("worker_versions_unknown", error=str(error))
            await asyncio.sleep(_PAUSE_SECONDS)

    async def look(self) -> None:
        """Looks once.

        Raises:
            VersionsUnavailable: Temporal is away, refuses, or knows no versions.
        """
        known = await self._temporal.look()
        if known.current and WITHOUT_VERSION in known.polling:
            await self._temporal.make_current(WITHOUT_VERSION, known.token)
            log.info("worker_versions_off", before=known.current)
