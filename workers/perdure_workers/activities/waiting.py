"""Waiting for news, for as long as it takes, from one worker to the next."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio.exceptions import ApplicationError, ApplicationErrorCategory


async def next_look(news: asyncio.Event, stop: asyncio.Task[None], seconds: float) -> None:
    """Waits for news, or for the time to pass.

    Args:
        news: Set when there is something to look at.
        stop: Done when this worker is to stop.
        seconds: The longest wait.

    Raises:
        ApplicationError: this worker stops; another takes over at once instead of after a missed heartbeat.
    """
    hearing = asyncio.create_task(news.wait())
    try:
        await asyncio.wait([hearing, stop], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        hearing.cancel()
    if stop.done():
        raise ApplicationError(
            "this worker is stopping; the next one goes on",
            next_retry_delay=timedelta(milliseconds=100),
            category=ApplicationErrorCategory.BENIGN,
        )
