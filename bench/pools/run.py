"""One drop: before it, while it is worked off, and until the pool is as small again as it was."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from temporalio.client import Client, WorkflowFailureError

from bench.cluster.errors import BenchError
from bench.cluster.tasks import Task, tasks
from bench.pools.load import Handle, Load, drop
from bench.pools.pool import Pool
from bench.pools.results import Drop, Sample
from perdure_workers.messages import ActivityName

LOOK_SECONDS: Final = 1.0
LEAD_SECONDS: Final = 5.0
"""Looked at before the drop, and after the pool is small again."""
PATIENCE_SECONDS: Final = 900.0


async def dropped(client: Client, pool: Pool, load: Load, autoscaler: str, least: int) -> Drop:
    """Drops the load on an idle pool, and looks until the pool is idle again.

    Raises:
        BenchError: a task fails, or the pool is busy or large for ever.
    """
    samples: list[Sample] = []
    await pool.until_calm(least)
    looking = asyncio.create_task(_look(pool, samples))
    try:
        await asyncio.sleep(LEAD_SECONDS)
        zero = time.time()
        handles = await drop(client, load, autoscaler)
        dropping = time.time() - zero
        async with asyncio.timeout(PATIENCE_SECONDS):
            await _all_done(handles)
            while looking.done() or not _is_small(samples[-1], least):
                _require(looking)
                await asyncio.sleep(LOOK_SECONDS)
        await asyncio.sleep(LEAD_SECONDS)
    except TimeoutError as error:
        raise BenchError(
            f"after {PATIENCE_SECONDS:.0f} s: {samples[-1].backlog} tasks wait, {samples[-1].wanted} replicas are "
            f"wanted and {samples[-1].ready} ready, expected 0, {least} and {least}"
        ) from error
    finally:
        looking.cancel()
    return Drop(
        autoscaler=autoscaler,
        least=least,
        dropping_seconds=round(dropping, 2),
        samples=[replace(sample, seconds=round(sample.seconds - zero, 2)) for sample in samples],
        tasks=[_since(task, zero) for handle in handles for task in await _tasks(handle)],
        stops={name: round(moment - zero, 2) for name, moment in pool.stops.items()},
    )


async def _look(pool: Pool, samples: list[Sample]) -> None:
    while True:
        began = time.monotonic()
        samples.append(await pool.look())
        await asyncio.sleep(max(0.0, LOOK_SECONDS - (time.monotonic() - began)))


def _require(looking: asyncio.Task[None]) -> None:
    """Raises what ended the looking, if anything did."""
    if looking.done():
        looking.result()


def _is_small(sample: Sample, least: int) -> bool:
    return (sample.wanted, sample.ready) == (least, least)


async def _all_done(handles: Sequence[Handle]) -> None:
    for handle in handles:
        try:
            await handle.result()
        except WorkflowFailureError as error:
            raise BenchError(f"{handle.id} has failed, expected every task to be done: {error.cause}") from error


async def _tasks(handle: Handle) -> list[Task]:
    return tasks((await handle.fetch_history()).events, ActivityName.EMBED_TEXTS)


def _since(task: Task, zero: float) -> Task:
    return replace(
        task,
        scheduled=round(task.scheduled - zero, 3),
        started=round(task.started - zero, 3),
        ended=round(task.ended - zero, 3),
    )
