"""What the operator says about an object: in its status, and by Events."""

from __future__ import annotations

from typing import Any

import structlog

from perdure_api.events import EventNote
from perdure_control.statuses import Written
from perdure_operator.services import Services
from perdure_operator.tracker import Tracked

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Speaker:
    """Says things about objects."""

    def __init__(self, services: Services) -> None:
        self._objects = services.objects
        self._metrics = services.metrics

    async def publish(self, tracked: Tracked, status: dict[str, Any]) -> Written:
        """Publishes the operator's part of a status.

        Raises:
            ClusterError: the API server is away or refuses the document.
        """
        written = await self._objects.publish(tracked.seen, status)
        self._metrics.status_writes.labels(result=written.value).inc()
        if written is Written.FINAL:
            # It finished in the meantime; the watch brings the news.
            log.info("status_was_final")
        return written

    async def tell_once(self, tracked: Tracked, note: EventNote) -> None:
        """Records an Event, unless it was recorded already.

        Raises:
            ClusterError: the API server is away.
        """
        if note.message not in tracked.told:
            await self._objects.tell(tracked.seen.job, note)
            tracked.told.add(note.message)
