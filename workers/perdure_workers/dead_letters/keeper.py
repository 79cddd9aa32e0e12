"""Looks for what failed for good and for what was done after all, over and over.

Temporal forgets a workflow that has ended after its retention, so somebody must look in time. Every worker does, and no
two of them get in each other's way: an entry's id follows from the run that failed, and Temporal takes it once.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from temporalio.client import (
    Client,
    WorkflowExecution,
    WorkflowExecutionStatus,
)
from temporalio.common import RawValue, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from perdure_api import names
from perdure_api.dead_letter import MEMO_LETTER, SIGNAL_LEAVE
from perdure_control.factory import letters
from perdure_control.factory.letters import CALL_TIMEOUT, Entry
from perdure_control.factory.start import MEMO_INPUT
from perdure_workers.dead_letters.due import Leave, Run, Tell, due
from perdure_workers.dead_letters.histories import read_failure

LOOK_EVERY_SECONDS: Final = 30.0
"""A hundred workers ask Temporal's visibility seven times a second."""
_OVERLAP: Final = timedelta(minutes=10)
"""For so long visibility may lag behind, and clocks differ."""
_ERROR_CHARACTERS: Final = 2000
_FAILED: Final = f"ExecutionStatus IN ('Failed', 'TimedOut') AND WorkflowType != '{names.DEAD_LETTER_WORKFLOW_TYPE}'"

log = structlog.get_logger(__name__)


class DeadLetterKeeper:
    """Looks, over and over."""

    def __init__(self, client: Callable[[], Client], clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Looks at nothing yet.

        Args:
            client: The newest one.
            clock: The time.
        """
        self._client = client
        self._clock = clock
        self._since: datetime | None = None
        self._seen: dict[str, datetime] = {}
        """Runs that need no second look, by when they ended."""
        self.waiting: Mapping[str, int] | None = None
        """Entries that wait for somebody, by the name of the workflow; None: not known."""
        self.problem: str | None = None
        """Why the list is not kept; None while it is."""

    async def keep(self) -> None:
        """Never returns; end it by cancelling."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311 - not all at once

    async def look(self) -> None:
        """Looks once. What cannot be done now is done the next time."""
        try:
            problem = await self._look(self._client())
        except Exception as error:  # noqa: BLE001 - what somebody has put into Temporal must not end training jobs
            problem = f"not looked for: {error}"
            self.waiting = None
        if problem and not self.problem:
            log.warning("dead_letters_not_kept", why=problem)
        self.problem = problem

    async def _look(self, client: Client) -> str | None:
        """Why something could not be done; None when all was."""
        began = self._clock()
        there = await letters.entries(client)
        problem = None
        for execution in await _failed(client, self._since):
            if execution.run_id not in self._seen:
                problem = await self._try_to_add(client, execution, there) or problem
        if problem is None:
            self._since = began - _OVERLAP
            self._seen = {run_id: ended for run_id, ended in self._seen.items() if ended >= self._since}
        await self._settle(client, await letters.entries(client))
        return problem

    async def _try_to_add(self, client: Client, execution: WorkflowExecution, there: Sequence[Entry]) -> str | None:
        """Why it could not be; it is tried again with the next look, and holds no other up."""
        try:
            await self._add(client, execution, there)
        except RPCError:
            raise
        except Exception as error:
            log.exception("dead_letter_not_made", workflow_id=execution.id, run_id=execution.run_id)
            return f"{execution.id} has failed for good, and cannot be put on the list: {error}"
        self._seen[execution.run_id] = execution.close_time or self._clock()
        return None

    async def _add(self, client: Client, execution: WorkflowExecution, there: Sequence[Entry]) -> None:
        before = [entry.letter.failures for entry in there if entry.letter.id == execution.id]
        try:
            failure = await read_failure(client, execution, failures=max(before, default=0) + 1)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            log.exception("dead_letter_lost", workflow_id=execution.id, run_id=execution.run_id)
            return
        if failure is None:
            return
        letter = failure.letter
        try:
            await client.start_workflow(
                names.DEAD_LETTER_WORKFLOW_TYPE,
                RawValue(failure.given),
                id=names.dead_letter_id(execution.run_id),
                task_queue=names.TASK_QUEUE_CPU,
                memo={MEMO_LETTER: letter},
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                rpc_timeout=CALL_TIMEOUT,
            )
        except WorkflowAlreadyStartedError:
            return  # another worker was first, or somebody has dropped it since
        log.warning("dead_letter", workflow_id=letter.id, run_id=letter.run_id, error=letter.error)

    async def _settle(self, client: Client, there: Sequence[Entry]) -> None:
        on_the_list = frozenset(entry.letter.run_id for entry in there)
        waiting: Counter[str] = Counter()
        for entry in there:
            what = due(entry, await _newest_run(client, entry.letter.id), on_the_list)
            await _do(client, entry, what)
            retried = what.retried if isinstance(what, Tell) else entry.retried
            waiting[entry.letter.workflow] += not (retried or isinstance(what, Leave))
        self.waiting = waiting

    def register(self, registry: CollectorRegistry, workflows: Iterable[str]) -> None:
        """Tells Prometheus how many wait, of each of the workflows that are known, and of others that have some."""
        registry.register(_Gauge(self, tuple(workflows)))


class _Gauge(Collector):
    def __init__(self, keeper: DeadLetterKeeper, workflows: Sequence[str]) -> None:
        self._keeper = keeper
        self._workflows = workflows

    def collect(self) -> Iterator[Metric]:
        gauge = GaugeMetricFamily(
            "perdure_dead_letters",
            "Work that failed for good and waits for somebody, by workflow; absent: not known.",
            labels=["workflow"],
        )
        waiting = self._keeper.waiting
        if waiting is not None:
            for workflow, count in {**dict.fromkeys(self._workflows, 0), **waiting}.items():
                gauge.add_metric([workflow], count)
        yield gauge


async def _failed(client: Client, since: datetime | None) -> list[WorkflowExecution]:
    """Workflows of the factory that failed; since None: all that Temporal still knows."""
    query = _FAILED + (f" AND CloseTime >= '{since.isoformat()}'" if since else "")
    found = client.list_workflows(query, rpc_timeout=CALL_TIMEOUT)
    return [execution async for execution in found if MEMO_INPUT in execution.raw_info.memo.fields]


async def _newest_run(client: Client, id_: str) -> Run | None:
    """One call for each entry: Temporal's query language cannot name every id that there can be."""
    try:
        there = await client.get_workflow_handle(id_).describe(rpc_timeout=CALL_TIMEOUT)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return None
    return Run(there.run_id, there.start_time, there.status or WorkflowExecutionStatus.RUNNING)


async def _do(client: Client, entry: Entry, what: Leave | Tell | None) -> None:
    try:
        match what:
            case Leave(why):
                handle = client.get_workflow_handle(entry.id)
                await handle.signal(SIGNAL_LEAVE, why, rpc_timeout=CALL_TIMEOUT)
                log.info("dead_letter_left", workflow_id=entry.letter.id, why=why)
            case Tell(retried):
                await letters.tell(client, entry, retried)
            case None:
                return
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:  # another worker was first
            raise
