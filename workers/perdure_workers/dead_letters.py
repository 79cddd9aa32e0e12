"""Keeps the list of dead letters: what failed for good comes on it, what was done after all leaves it.

Temporal forgets a workflow that has ended after its retention, so somebody must look in time. Every worker does, and no
two of them get in each other's way: an entry's id follows from the run that failed, and Temporal takes it once.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from temporalio.api.common.v1 import RetryPolicy
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent, WorkflowExecutionStartedEventAttributes
from temporalio.client import (
    Client,
    WorkflowExecution,
    WorkflowExecutionStatus,
    WorkflowHandle,
    WorkflowHistoryEventFilterType,
)
from temporalio.common import RawValue, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from perdure_api import names
from perdure_api.dead_letter import MEMO_LETTER, SIGNAL_LEAVE, DeadLetter, Retried, WorkflowRetry
from perdure_control.factory import ends, letters
from perdure_control.factory.errors import TemporalAway
from perdure_control.factory.letters import CALL_TIMEOUT, Entry
from perdure_control.factory.start import MEMO_INPUT, MEMO_NAME

LOOK_EVERY_SECONDS: Final = 30.0
"""A hundred workers ask Temporal's visibility seven times a second."""
_OVERLAP: Final = timedelta(minutes=10)
"""For so long visibility may lag behind, and clocks differ."""
_ERROR_CHARACTERS: Final = 2000
_FAILED: Final = f"ExecutionStatus IN ('Failed', 'TimedOut') AND WorkflowType != '{names.DEAD_LETTER_WORKFLOW_TYPE}'"

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Leave:
    """An entry leaves the list."""

    why: str


@dataclass(frozen=True)
class Tell:
    """An entry says that its work is being tried again, or (None) is no more."""

    retried: Retried | None


@dataclass(frozen=True)
class Run:
    """The newest run of a workflow's id."""

    run_id: str
    started: datetime
    status: WorkflowExecutionStatus


def due(entry: Entry, newest: Run | None, on_the_list: frozenset[str]) -> Leave | Tell | None:
    """What becomes of an entry, whoever started its work again, and how.

    Args:
        entry: The entry.
        newest: The newest run of its workflow's id; None: Temporal knows none any more.
        on_the_list: Runs that have an entry.
    """
    if newest is None or newest.run_id == entry.letter.run_id or newest.started < entry.letter.failed_at:
        return None
    match newest.status:
        case WorkflowExecutionStatus.RUNNING:
            return None if entry.retried else Tell(Retried(run_id=newest.run_id, at=newest.started))
        case WorkflowExecutionStatus.COMPLETED:
            return Leave(f"run {newest.run_id} of it has completed")
        case WorkflowExecutionStatus.FAILED | WorkflowExecutionStatus.TIMED_OUT:
            return Leave(f"run {newest.run_id} of it has failed too") if newest.run_id in on_the_list else None
        case WorkflowExecutionStatus.CANCELED | WorkflowExecutionStatus.TERMINATED:
            return Tell(None) if entry.retried else None
        case WorkflowExecutionStatus.CONTINUED_AS_NEW:
            return None


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
            await self._look(self._client())
        except (RPCError, TemporalAway, RuntimeError) as error:
            if self.problem is None:
                log.warning("dead_letters_not_kept", why=str(error))
            self.problem = f"not looked for: {error}"
            self.waiting = None
        else:
            self.problem = None

    async def _look(self, client: Client) -> None:
        began = self._clock()
        there = await letters.entries(client)
        for execution in await _failed(client, self._since):
            if execution.run_id not in self._seen:
                await self._add(client, execution, there)
                self._seen[execution.run_id] = execution.close_time or began
        self._since = began - _OVERLAP
        self._seen = {run_id: ended for run_id, ended in self._seen.items() if ended >= self._since}
        await self._settle(client, await letters.entries(client))

    async def _add(self, client: Client, execution: WorkflowExecution, there: Sequence[Entry]) -> None:
        try:
            started, ended = await _ends_of_history(client, execution)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            log.exception("dead_letter_lost", workflow_id=execution.id, run_id=execution.run_id)
            return
        if _goes_on(ended):
            return
        before = [entry.letter.failures for entry in there if entry.letter.id == execution.id]
        letter = await _letter(client, execution, started, ended, failures=max(before, default=0) + 1)
        try:
            await client.start_workflow(
                names.DEAD_LETTER_WORKFLOW_TYPE,
                RawValue(started.input.payloads[0]),
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


async def _ends_of_history(
    client: Client, execution: WorkflowExecution
) -> tuple[WorkflowExecutionStartedEventAttributes, HistoryEvent]:
    handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
    first = await _first_event(handle, WorkflowHistoryEventFilterType.ALL_EVENT)
    last = await _first_event(handle, WorkflowHistoryEventFilterType.CLOSE_EVENT)
    return first.workflow_execution_started_event_attributes, last


async def _first_event(handle: WorkflowHandle[object, object], which: WorkflowHistoryEventFilterType) -> HistoryEvent:
    events = handle.fetch_history_events(page_size=1, event_filter_type=which, rpc_timeout=CALL_TIMEOUT)
    async for event in events:
        return event
    raise AssertionError("a history that ended has a first and a last event")


def _goes_on(ended: HistoryEvent) -> bool:
    """Whether the workflow's own retry policy begins another run."""
    failed, timed_out = (
        ended.workflow_execution_failed_event_attributes,
        (ended.workflow_execution_timed_out_event_attributes),
    )
    return bool(failed.new_execution_run_id or timed_out.new_execution_run_id)


async def _letter(
    client: Client,
    execution: WorkflowExecution,
    started: WorkflowExecutionStartedEventAttributes,
    ended: HistoryEvent,
    failures: int,
) -> DeadLetter:
    timeout = started.workflow_execution_timeout.ToTimedelta()
    if ended.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT:
        error, error_type = f"it did not end within {timeout.total_seconds():.0f} s", "Timeout"
    else:
        failure = await client.data_converter.decode_failure(ended.workflow_execution_failed_event_attributes.failure)
        error, error_type = ends.sentence(failure), ends.kind(failure)
    return DeadLetter(
        workflow=await execution.memo_value(MEMO_NAME, execution.workflow_type, type_hint=str),
        type=execution.workflow_type,
        id=execution.id,
        run_id=execution.run_id,
        queue=started.task_queue.name,
        input_digest=await execution.memo_value(MEMO_INPUT, type_hint=str),
        error=error if len(error) <= _ERROR_CHARACTERS else f"{error[: _ERROR_CHARACTERS - 1]}…",
        error_type=error_type,
        failed_at=ended.event_time.ToDatetime(UTC),
        failures=failures,
        timeout_seconds=timeout.total_seconds() or None,
        retry=_retry(started.retry_policy) if started.HasField("retry_policy") else None,
    )


def _retry(policy: RetryPolicy) -> WorkflowRetry:
    return WorkflowRetry(
        initial_interval_seconds=policy.initial_interval.ToTimedelta().total_seconds(),
        backoff_coefficient=policy.backoff_coefficient,
        maximum_interval_seconds=policy.maximum_interval.ToTimedelta().total_seconds() or None,
        maximum_attempts=policy.maximum_attempts,
        non_retryable_error_types=tuple(policy.non_retryable_error_types),
    )
