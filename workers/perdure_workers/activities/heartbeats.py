"""Telling Temporal that an activity is alive."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final, TypeVar

from temporalio import activity

T = TypeVar("T")

_HEARTBEAT_SECONDS: Final = 15.0


async def beating(work: Awaitable[T]) -> T:
    """The result of the work; heartbeats while it lasts."""
    task = asyncio.ensure_future(work)
    try:
        while True:
            done, _ = await asyncio.wait([task], timeout=_HEARTBEAT_SECONDS)
            if done:
                return task.result()
            activity.heartbeat()
    finally:
        task.cancel()
