"""Writes progress to the status: the first word at once, then at most one write in an interval for each job."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Final

import structlog

from perdure_api import names
from perdure_api.conditions import is_terminal
from perdure_api.status import TrainingJobStatus
from perdure_control.cluster import Cluster, ClusterError, Document
from perdure_control.logs import about
from perdure_control.statuses import apply_status
from perdure_workers.progress.board import ProgressBoard, Told, is_stale, newer_checkpoint
from perdure_workers.story import rfc3339
from perdure_workers.watching.facts import AttemptKey

_MAX_WRITES_AT_A_TIME: Final = 16

log = structlog.get_logger(__name__)


class ProgressWriter:
    """Coalesces: what is told between two writes is replaced by what is told later."""

    def __init__(self, cluster: Cluster, board: ProgressBoard, interval_seconds: float) -> None:
        self._cluster = cluster
        self._board = board
        self._interval_seconds = interval_seconds
        self._writing: dict[AttemptKey, asyncio.Task[None]] = {}
        self._stale: set[AttemptKey] = set()
        self._gate = asyncio.Semaphore(_MAX_WRITES_AT_A_TIME)

    def told(self, key: AttemptKey) -> None:
        """There is news on the board."""
        self._stale.add(key)
        if key not in self._writing:
            self._writing[key] = asyncio.create_task(self._write_while_stale(key))

    async def flush(self, key: AttemptKey) -> None:
        """Writes what is still unwritten of an attempt that ends, then forgets it."""
        task = self._writing.pop(key, None)
        if task:
            task.cancel()
            await asyncio.wait([task])
        if key in self._stale:
            await self._write(key)
        self._board.forget(key)

    async def close(self) -> None:
        """Ends all waiting writes."""
        tasks = list(self._writing.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _write_while_stale(self, key: AttemptKey) -> None:
        try:
            while key in self._stale:
                await self._write(key)
                await asyncio.sleep(self._interval_seconds)
        finally:
            if self._writing.get(key) is asyncio.current_task():
                del self._writing[key]

    async def _write(self, key: AttemptKey) -> None:
        self._stale.discard(key)
        told = self._board.get(key)
        if told is None:
            return
        try:
            async with self._gate:
                await self._apply(told)
        except ClusterError as error:
            # The next report brings newer figures; a lost one is no loss.
            log.warning("progress_not_written", **about(told.job), error=error.message)

    async def _apply(self, told: Told) -> None:
        def beside(shown: Document) -> Document | None:
            status = TrainingJobStatus.from_wire(shown)
            if is_terminal(status.conditions):
                return None
            if is_stale(told.progress, status.progress, rfc3339(datetime.now(UTC))):
                return None
            checkpoint = newer_checkpoint(told.checkpoint, status.checkpoint)
            document = {"progress": told.progress.to_wire()}
            return {**document, "checkpoint": checkpoint.to_wire()} if checkpoint else document

        await apply_status(self._cluster, told.job, beside, manager=names.FIELD_MANAGER_PROGRESS)
