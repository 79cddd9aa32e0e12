"""Activities that last: piece by piece, each told by a heartbeat, so that a successor goes on behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

Note = TypeVar("Note", bound=BaseModel)
T = TypeVar("T")

_BEAT_SECONDS: Final = 5.0


class Lasting(Generic[Note]):
    """What has been done of an activity, and how it gets on with the rest."""

    def __init__(self, note: Note, finish_seconds: float) -> None:
        self.note = note
        self._finish_seconds = finish_seconds
        self._stop = asyncio.create_task(activity.wait_for_worker_shutdown())

    async def piece(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a piece of work. A worker that is to stop lets it finish, unless that takes too long.

        Raises:
            ApplicationError: this worker stops; the next one begins with this piece.
        """
        if self._stop.done():
            work.close()
            raise _handed_over()
        task = asyncio.create_task(work)
        try:
            await asyncio.wait([task, self._stop], return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                await asyncio.wait([task], timeout=self._finish_seconds)
            if not task.done():
                raise _handed_over()
            return task.result()
        finally:
            task.cancel()

    def done(self, note: Note) -> None:
        """What has been done by now, for whoever goes on."""
        self.note = note
        activity.heartbeat(note)

    async def _beat(self) -> None:
        while True:
            activity.heartbeat(self.note)
            await asyncio.sleep(_BEAT_SECONDS)


@asynccontextmanager
async def lasting(note_type: type[Note], finish_seconds: float) -> AsyncIterator[Lasting[Note]]:
    """The activity that runs, from where the one before it was.

    Args:
        note_type: Of its heartbeat details.
        finish_seconds: How long a piece may go on after this worker was told to stop.
    """
    details = activity.info().heartbeat_details
    found = Lasting(note_type.model_validate(details[0]) if details else note_type(), finish_seconds)
    beating = asyncio.create_task(found._beat())  # noqa: SLF001 - of this module
    try:
        yield found
    finally:
        beating.cancel()
        found._stop.cancel()  # noqa: SLF001 - as above


def _handed_over() -> ApplicationError:
    return ApplicationError(
        "this worker is stopping; the next one goes on",
        next_retry_delay=timedelta(milliseconds=100),
        category=ApplicationErrorCategory.BENIGN,
    )
