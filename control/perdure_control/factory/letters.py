"""Dead letters: work that failed for good, listed, tried again, or dropped."""

from __future__ import annotations

import difflib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from temporalio.api.common.v1 import Payload
from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus
from temporalio.common import RawValue, RetryPolicy, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from perdure_api import names
from perdure_api.dead_letter import (
    MEMO_LETTER,
    MEMO_RETRIED,
    SIGNAL_LEAVE,
    SIGNAL_RETRIED,
    DeadLetter,
    Retried,
    WorkflowRetry,
)
from perdure_control.factory.errors import AlreadyStarted, NoDeadLetter
from perdure_control.factory.start import MEMO_INPUT, MEMO_NAME, away

OPEN: Final = f"WorkflowType = '{names.DEAD_LETTER_WORKFLOW_TYPE}' AND ExecutionStatus = 'Running'"
"""Temporal's query for all entries."""
CALL_TIMEOUT: Final = timedelta(seconds=10)


@dataclass(frozen=True)
class Entry:
    """One entry of the list."""

    letter: DeadLetter
    retried: Retried | None = None
    """None: it waits for somebody."""

    @property
    def id(self) -> str:
        """Of the workflow that holds it."""
        return names.dead_letter_id(self.letter.run_id)


async def entries(client: Client) -> list[Entry]:
    """Everything that is on the list, the oldest first. One of a second ago may not be on it yet.

    Raises:
        TemporalAway: no answer.
    """
    async with _telling(client):
        found = [await _read(execution) async for execution in client.list_workflows(OPEN, rpc_timeout=CALL_TIMEOUT)]
    return sorted((entry for entry in found if entry), key=lambda entry: entry.letter.failed_at)


def named(id_: str, there: Sequence[Entry]) -> Entry:
    """The entry of a workflow's id; of several the newest.

    Raises:
        NoDeadLetter: there is none; says which are near.
    """
    found = [entry for entry in there if id_ in {entry.letter.id, entry.id}]
    if found:
        return found[-1]
    near = difflib.get_close_matches(id_, [entry.letter.id for entry in there], n=1, cutoff=0.5)
    hint = f'did you mean "{near[0]}"?' if near else "`perdure dead-letters list` shows those that there are"
    raise NoDeadLetter(f'there is no dead letter "{id_}"; {hint}')


async def given(client: Client, entry: Entry) -> Payload:
    """The input of the work, as Temporal keeps it.

    Raises:
        NoDeadLetter: the entry went meanwhile.
        TemporalAway: no answer.
    """
    async with _telling(client, entry):
        events = client.get_workflow_handle(entry.id).fetch_history_events(page_size=1, rpc_timeout=CALL_TIMEOUT)
        async for event in events:
            payload: Payload = event.workflow_execution_started_event_attributes.input.payloads[0]
            return payload
    raise AssertionError("a workflow has a first event")


async def shown(client: Client, entry: Entry) -> Any:
    """The input of the work as JSON says it.

    Raises:
        FactoryError: as for given.
    """
    (value,) = await client.data_converter.decode([await given(client, entry)])
    return value


async def has_history(client: Client, entry: Entry) -> bool:
    """Whether Temporal still has the history of the run that failed.

    Raises:
        TemporalAway: no answer.
    """
    async with _telling(client):
        try:
            failed = client.get_workflow_handle(entry.letter.id, run_id=entry.letter.run_id)
            await failed.describe(rpc_timeout=CALL_TIMEOUT)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            return False
    return True


async def retry(
    client: Client, entry: Entry, by: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Retried:
    """Starts the same workflow with the same input and the same id, and says so in the entry.

    Raises:
        AlreadyStarted: it runs again already, or has completed meanwhile.
        FactoryError: as for given.
    """
    letter, input_ = entry.letter, await given(client, entry)
    async with _telling(client, entry):
        try:
            handle = await client.start_workflow(
                letter.type,
                RawValue(await _decoded(client, input_)),
                id=letter.id,
                task_queue=letter.queue,
                execution_timeout=timedelta(seconds=letter.timeout_seconds) if letter.timeout_seconds else None,
                retry_policy=_policy(letter.retry),
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                memo={MEMO_INPUT: letter.input_digest, MEMO_NAME: letter.workflow},
                static_summary=letter.workflow,
                rpc_timeout=CALL_TIMEOUT,
            )
        except WorkflowAlreadyStartedError as error:
            raise await _already(client, letter) from error
        retried = Retried(run_id=handle.first_execution_run_id or "", at=clock(), by=by)
        # Should this not be told any more, the workers find it out.
        await tell(client, entry, retried)
    return retried


async def tell(client: Client, entry: Entry, retried: Retried | None) -> None:
    """Says in an entry that its work is being tried again, or is no more.

    Raises:
        RPCError: no answer, or the entry went meanwhile.
    """
    handle = client.get_workflow_handle(entry.id)
    await handle.signal(SIGNAL_RETRIED, retried, rpc_timeout=CALL_TIMEOUT)


async def drop(client: Client, entry: Entry, why: str) -> None:
    """Takes an entry off the list. The work itself is not touched.

    Raises:
        NoDeadLetter: the entry went meanwhile.
        TemporalAway: no answer.
    """
    async with _telling(client, entry):
        await client.get_workflow_handle(entry.id).signal(SIGNAL_LEAVE, why, rpc_timeout=CALL_TIMEOUT)


async def _read(execution: WorkflowExecution) -> Entry | None:
    letter = await execution.memo_value(MEMO_LETTER, None, type_hint=DeadLetter)
    retried = await execution.memo_value(MEMO_RETRIED, None, type_hint=Retried)
    return Entry(letter, retried) if letter else None


async def _already(client: Client, letter: DeadLetter) -> AlreadyStarted:
    there = await client.get_workflow_handle(letter.id).describe(rpc_timeout=CALL_TIMEOUT)
    if there.status is WorkflowExecutionStatus.RUNNING:
        return AlreadyStarted(f"{letter.id} is being tried again already; wait for its end")
    return AlreadyStarted(f"{letter.id} has completed meanwhile; its entry goes by itself")


async def _decoded(client: Client, payload: Payload) -> Payload:
    """What a codec encoded is encoded anew on its way back."""
    codec = client.data_converter.payload_codec
    return (await codec.decode([payload]))[0] if codec else payload


def _policy(told: WorkflowRetry | None) -> RetryPolicy | None:
    if told is None:
        return None
    longest = told.maximum_interval_seconds
    return RetryPolicy(
        initial_interval=timedelta(seconds=told.initial_interval_seconds),
        backoff_coefficient=told.backoff_coefficient,
        maximum_interval=timedelta(seconds=longest) if longest else None,
        maximum_attempts=told.maximum_attempts,
        non_retryable_error_types=list(told.non_retryable_error_types) or None,
    )


@asynccontextmanager
async def _telling(client: Client, entry: Entry | None = None) -> AsyncIterator[None]:
    """What Temporal answers instead becomes an error of ours."""
    try:
        yield
    except RPCError as error:
        if entry and error.status is RPCStatusCode.NOT_FOUND:
            raise NoDeadLetter(f"the dead letter {entry.letter.id} is not there any more") from error
        raise away(client, error) from error
