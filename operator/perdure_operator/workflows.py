"""The Temporal side: starting, cancelling and looking at the one workflow of a TrainingJob, and at that of its purge.

TemporalError
├── TemporalUnavailable   no answer, or none to us: the same call succeeds one day
└── (RPCError)            what one call got for what it asked; let through
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from functools import partial
from typing import Final

import structlog
from pydantic import ValidationError
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.errordetails.v1 import NamespaceNotFoundFailure
from temporalio.api.failure.v1 import Failure
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, GetWorkflowExecutionHistoryReverseRequest
from temporalio.client import Client, WorkflowExecutionDescription, WorkflowExecutionStatus, WorkflowFailureError
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RetryConfig, RPCError, RPCStatusCode

from perdure_api import names
from perdure_api.conditions import Reason
from perdure_api.status import TrainingJobStatus
from perdure_api.workflow import (
    MEMO_TRAINING_JOB,
    SIGNAL_CHECKPOINT,
    SIGNAL_WISHES,
    CheckpointRequest,
    JobRef,
    PurgeInput,
    TrainingInput,
    Wishes,
)
from perdure_control.temporal import Connection, Place

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_CALL_TIMEOUT: Final = timedelta(seconds=5)
_RETRIES: Final = RetryConfig(max_retries=2, max_elapsed_time_millis=3000)
"""Few: the queue tries again for ever, and a call that hangs holds one of its workers."""

_PURGE_TIMEOUT: Final = timedelta(days=30)
"""A purge that nobody waits for any more ends by then; one that somebody waits for is started anew."""
_PROBE_SECONDS: Final = 15.0
_FIRST_RETRY_SECONDS: Final = 0.5
_PAGE: Final = 1000

_FAILING_ATTEMPTS: Final = 3
"""A task of a workflow that is tried so often in vain will be again: once or twice a worker may have died over it."""
_NEWEST_EVENTS: Final = 10

_UNAVAILABLE: Final = frozenset(
    {
        RPCStatusCode.UNAVAILABLE,
        RPCStatusCode.DEADLINE_EXCEEDED,
        RPCStatusCode.CANCELLED,  # what a call's timeout becomes on its way through the SDK
        RPCStatusCode.UNAUTHENTICATED,
        RPCStatusCode.PERMISSION_DENIED,
    }
)
"""Wrong credentials are among them: once they are put right, every job that waited goes on.

Others (INTERNAL, RESOURCE_EXHAUSTED, …) may be about one call only: the queue tries that object again by itself.
"""


class TemporalUnavailable(Exception):
    """Temporal gave no answer, or none to us."""


class Standing(Enum):
    """How a workflow stands."""

    MISSING = "missing"
    """Temporal knows none of this id: never started, or its history is past retention."""
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TERMINATED = "terminated"
    TIMED_OUT = "timed out"

    @property
    def open(self) -> bool:
        """Whether it still goes on."""
        return self is Standing.RUNNING


@dataclass(frozen=True)
class Purge:
    """How the deletion of a run's checkpoints stands."""

    done: bool = False
    problem: str = ""
    """What keeps it from going on; empty: nothing that is known."""
    reason: Reason = Reason.STORE_UNAVAILABLE
    """Of what kind that is."""


class Workflows:
    """The workflows of TrainingJobs.

    While Temporal is known to be away, every call fails at once: five thousand waiting objects must not keep the
    queue's workers busy with timeouts. One probe finds out when it is back.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._problem: str | None = None
        self._failed = asyncio.Event()

    def use(self, client: Client) -> None:
        """Takes another client from now on; calls that are under way end on the one before."""
        self._client = client

    @property
    def problem(self) -> str | None:
        """Why Temporal cannot be used now; None when it can."""
        return self._problem

    async def start(self, request: TrainingInput) -> bool:
        """Starts the workflow, or finds it running.

        A second operator by accident, or this one after a restart, does no harm: the id is the object's, a running
        workflow is used as it is, and one that ever ran is never started again.

        Returns:
            False when the workflow has ended already.

        Raises:
            TemporalUnavailable: no answer.
        """
        job = request.job
        try:
            async with self._answers():
                await self._client.start_workflow(
                    names.WORKFLOW_TYPE,
                    request,
                    id=job.workflow_id,
                    task_queue=names.TASK_QUEUE_CPU,
                    id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                    id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                    memo={MEMO_TRAINING_JOB: f"{job.namespace}/{job.name}"},
                    rpc_timeout=_CALL_TIMEOUT,
                )
        except WorkflowAlreadyStartedError:
            return False
        return True

    async def cancel(self, job: JobRef) -> bool:
        """Asks the workflow to clean up and end; whether there is one that runs.

        Raises:
            TemporalUnavailable: no answer.
        """
        return await self._cancel(job.workflow_id)

    async def start_purge(self, request: PurgeInput) -> None:
        """Has the checkpoints of a run deleted, or finds that being done, or done.

        One that was ended from outside begins again: only when it has completed nothing is left of them.

        Raises:
            TemporalUnavailable: no answer.
        """
        job = request.job
        try:
            async with self._answers():
                await self._client.start_workflow(
                    names.PURGE_WORKFLOW_TYPE,
                    request,
                    id=job.purge_workflow_id,
                    task_queue=names.TASK_QUEUE_CPU,
                    execution_timeout=_PURGE_TIMEOUT,
                    id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
                    id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                    memo={MEMO_TRAINING_JOB: f"{job.namespace}/{job.name}"},
                    rpc_timeout=_CALL_TIMEOUT,
                )
        except WorkflowAlreadyStartedError:
            return

    async def purge(self, request: PurgeInput) -> Purge:
        """How the deletion of a run's checkpoints stands; it is begun if need be.

        Raises:
            TemporalUnavailable: no answer.
        """
        description = await self._describe(request.job.purge_workflow_id)
        standing = _standing(description.status) if description else Standing.MISSING
        if standing is Standing.COMPLETED:
            return Purge(done=True)
        if description is None or not standing.open:
            await self.start_purge(request)
            return Purge()
        return _problem(description)

    async def cancel_purge(self, job: JobRef) -> bool:
        """Has the checkpoints of a run left alone; whether they were being deleted.

        Raises:
            TemporalUnavailable: no answer.
        """
        return await self._cancel(job.purge_workflow_id)

    async def tell(self, job: JobRef, wishes: Wishes) -> bool:
        """Tells the workflow what has changed in the spec; whether there is one that runs.

        Raises:
            TemporalUnavailable: no answer.
        """
        return await self._signal(job, SIGNAL_WISHES, wishes)

    async def ask_checkpoint(self, job: JobRef, request: CheckpointRequest) -> bool:
        """Asks the workflow for a checkpoint; whether there is one that runs.

        Raises:
            TemporalUnavailable: no answer.
        """
        return await self._signal(job, SIGNAL_CHECKPOINT, request)

    async def standing(self, job: JobRef) -> Standing:
        """How the workflow stands.

        Raises:
            TemporalUnavailable: no answer.
        """
        description = await self._describe(job.workflow_id)
        return _standing(description.status) if description else Standing.MISSING

    async def failure(self, job: JobRef) -> str:
        """What the workflow's own code fails with, again and again; empty: it does not, as far as is known.

        Such a task is tried for ever, by whichever workers there are, and stands in no status of Temporal's.

        Raises:
            TemporalUnavailable: no answer.
        """
        description = await self._describe(job.workflow_id)
        if description is None or description.raw_description.pending_workflow_task.attempt < _FAILING_ATTEMPTS:
            return ""
        request = GetWorkflowExecutionHistoryReverseRequest(
            namespace=self._client.namespace,
            execution=WorkflowExecution(workflow_id=description.id, run_id=description.run_id),
            maximum_page_size=_NEWEST_EVENTS,
        )
        async with self._answers():
            newest = await self._client.workflow_service.get_workflow_execution_history_reverse(
                request, timeout=_CALL_TIMEOUT
            )
        # Only the first of the failures in a row is an event, and none comes after it.
        for event in newest.history.events:
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
                return _in_a_line(event.workflow_task_failed_event_attributes.failure)
        return ""

    async def last_word(self, job: JobRef) -> TrainingJobStatus | None:
        """The status that a completed workflow returned; None when it returned none that can be read.

        Raises:
            TemporalUnavailable: no answer.
        """
        handle = self._client.get_workflow_handle(job.workflow_id, result_type=dict)
        try:
            async with self._answers():
                document = await handle.result(rpc_timeout=_CALL_TIMEOUT)
            return TrainingJobStatus.from_wire(document) if isinstance(document, dict) else None
        except (WorkflowFailureError, ValidationError):
            return None

    async def running_ids(self) -> set[str]:
        """The ids of all running workflows of our type, from the visibility store: at most seconds old.

        Raises:
            TemporalUnavailable: no answer.
        """
        query = f"WorkflowType = '{names.WORKFLOW_TYPE}' AND ExecutionStatus = 'Running'"
        async with self._answers():
            listing = self._client.list_workflows(query, page_size=_PAGE, rpc_timeout=_CALL_TIMEOUT)
            return {execution.id async for execution in listing}

    async def probe(self, on_return: Callable[[], None]) -> None:
        """Finds out for ever whether Temporal can be used: seldom while it can, ever more seldom while it cannot.

        The pauses start over only after a quiet time: a frontend that answers probes but nothing else must not make
        every waiting object try again each time.

        Args:
            on_return: Called each time that it can be used again.
        """
        retry_seconds = _FIRST_RETRY_SECONDS
        while True:
            await self._look(on_return)
            if self._problem is None and await self._quiet_for(_PROBE_SECONDS):
                retry_seconds = _FIRST_RETRY_SECONDS
            else:
                await asyncio.sleep(retry_seconds * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret
                retry_seconds = min(retry_seconds * 2, _PROBE_SECONDS)

    async def _quiet_for(self, seconds: float) -> bool:
        """Whether no call failed for so long; returns with the first that does."""
        try:
            async with asyncio.timeout(seconds):
                await self._failed.wait()
        except TimeoutError:
            return True
        return False

    async def _look(self, on_return: Callable[[], None]) -> None:
        try:
            # The SDK's own timeout does not count while it connects again.
            async with asyncio.timeout(_CALL_TIMEOUT.total_seconds()), self._answers(probe=True):
                await self._client.workflow_service.describe_namespace(
                    DescribeNamespaceRequest(namespace=self._client.namespace)
                )
        except TemporalUnavailable:
            return
        except (RPCError, TimeoutError) as error:
            self._note(str(error) or f"no answer within {_CALL_TIMEOUT.total_seconds():.0f} s")
            return
        # Also a look that began while all was well may be the first that succeeds after something failed.
        was_away, self._problem = self._problem is not None, None
        self._failed.clear()
        if was_away:
            log.info("temporal_is_back")
            on_return()

    async def _describe(self, id_: str) -> WorkflowExecutionDescription | None:
        """What Temporal knows of a workflow; None: nothing."""
        try:
            async with self._answers():
                return await self._client.get_workflow_handle(id_).describe(rpc_timeout=_CALL_TIMEOUT)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return None
            raise

    async def _cancel(self, id_: str) -> bool:
        handle = self._client.get_workflow_handle(id_)
        return await self._found(partial(handle.cancel, rpc_timeout=_CALL_TIMEOUT))

    async def _signal(self, job: JobRef, name: str, argument: Wishes | CheckpointRequest) -> bool:
        handle = self._client.get_workflow_handle(job.workflow_id)
        return await self._found(partial(handle.signal, name, argument, rpc_timeout=_CALL_TIMEOUT))

    async def _found(self, call: Callable[[], Awaitable[None]]) -> bool:
        """Whether a call found a workflow that runs."""
        try:
            async with self._answers():
                await call()
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            return False
        return True

    @asynccontextmanager
    async def _answers(self, *, probe: bool = False) -> AsyncIterator[None]:
        """Tells what is wrong with Temporal from what is wrong with one call."""
        if self._problem is not None and not probe:
            raise TemporalUnavailable(self._problem)
        try:
            yield
        except RPCError as error:
            if error.status in _UNAVAILABLE or _not_let_in(error) or _no_such_namespace(error):
                raise self._note(f"{error.status.name.lower()}: {error.message}") from error
            raise
        except RuntimeError as error:
            # A lazy client's first connection fails with nothing more specific (sdk-python, bridge).
            if "Failed client connect" in str(error):
                raise self._note(str(error)) from error
            raise

    def _note(self, problem: str) -> TemporalUnavailable:
        if self._problem is None:
            log.warning("temporal_is_away", problem=problem)
        self._problem = problem
        self._failed.set()
        return TemporalUnavailable(problem)


def connection(place: Place) -> Connection:
    """One whose first client connects with its first call: Temporal need not be there yet."""
    return Connection(place, identity="perdure-operator", lazy=True, retry_config=_RETRIES)


def _not_let_in(error: RPCError) -> bool:
    """Whether the connection was refused: TLS 1.3 does so after a handshake that seemed to succeed, with no status."""
    return error.status is RPCStatusCode.UNKNOWN and error.message == "transport error"


def _no_such_namespace(error: RPCError) -> bool:
    return any(detail.Is(NamespaceNotFoundFailure.DESCRIPTOR) for detail in error.grpc_status.details)


def _standing(status: WorkflowExecutionStatus | None) -> Standing:
    match status:
        case None | WorkflowExecutionStatus.RUNNING | WorkflowExecutionStatus.CONTINUED_AS_NEW:
            return Standing.RUNNING
        case WorkflowExecutionStatus.COMPLETED:
            return Standing.COMPLETED
        case WorkflowExecutionStatus.FAILED:
            return Standing.FAILED
        case WorkflowExecutionStatus.CANCELED:
            return Standing.CANCELLED
        case WorkflowExecutionStatus.TERMINATED:
            return Standing.TERMINATED
        case WorkflowExecutionStatus.TIMED_OUT:
            return Standing.TIMED_OUT
        case _:
            # A status of a newer server (paused workflows are coming): not closed as far as we know.
            return Standing.RUNNING


def _problem(description: WorkflowExecutionDescription) -> Purge:
    """What the newest failure of an activity that is tried again says, where its type is a reason."""
    for pending in description.raw_description.pending_activities:
        kind = pending.last_failure.application_failure_info.type
        if kind in set(Reason):
            return Purge(problem=pending.last_failure.message, reason=Reason(kind))
    return Purge()


def _in_a_line(failure: Failure) -> str:
    """A failure as `Type: message`."""
    kind = failure.application_failure_info.type
    return " ".join(f"{kind}: {failure.message}".removeprefix(": ").split())
