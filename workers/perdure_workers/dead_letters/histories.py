"""What Temporal tells of a run that failed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from typing import Final

from temporalio.api.common.v1 import Payload, RetryPolicy
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent, WorkflowExecutionStartedEventAttributes
from temporalio.client import Client, WorkflowExecution, WorkflowHandle, WorkflowHistoryEventFilterType

from perdure_api.dead_letter import DeadLetter, WorkflowRetry
from perdure_control.factory import ends
from perdure_control.factory.letters import CALL_TIMEOUT
from perdure_control.factory.start import MEMO_INPUT, MEMO_NAME

_ERROR_CHARACTERS: Final = 2000


@dataclass(frozen=True)
class Failure:
    """A run that failed for good."""

    letter: DeadLetter
    given: Payload
    """Its input."""


async def read_failure(client: Client, execution: WorkflowExecution, failures: int) -> Failure | None:
    """What there is to say of a run that failed; None: the workflow's own retry policy begins another.

    Args:
        client: Temporal's.
        execution: The run, as lists show it.
        failures: How often the workflow has failed for good, this time included.

    Raises:
        RPCError: no answer, or (NOT_FOUND) Temporal has forgotten the run.
    """
    started, ended = await _ends_of_history(client, execution)
    if _goes_on(ended):
        return None
    return Failure(await _letter(client, execution, started, ended, failures), started.input.payloads[0])


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
