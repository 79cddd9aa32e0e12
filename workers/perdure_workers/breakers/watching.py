"""What activities come to, told to their breaker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory, CancelledError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from perdure_workers.breakers.circuit import Circuit

log = structlog.get_logger(__name__)


def is_failure(error: BaseException, final_types: frozenset[str]) -> bool | None:
    """Whether an error says that what the activity leans on is away; None: it says nothing of that.

    What Temporal tries again may be better another time. What it does not is wrong in itself: an input, most often.

    Args:
        error: What the activity raised.
        final_types: Types of errors that its retry policy does not retry.
    """
    match error:
        case ApplicationError(non_retryable=True) | ApplicationError(category=ApplicationErrorCategory.BENIGN):
            return None
        case ApplicationError():
            return None if error.type in final_types else True
        case CancelledError():
            return None
        case Exception():
            return None if type(error).__name__ in final_types else True
        case _:
            return None  # cancelled: by somebody, by the end of the worker, or out of time, which is noted by itself


class Watching(Interceptor):
    """For the worker of the activities that one breaker is of."""

    def __init__(self, circuit: Circuit, clock: Callable[[], float] = time.monotonic) -> None:
        self._circuit = circuit
        self._clock = clock

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002 - Temporal's name
        """See the base class."""
        return _Watched(next, self._circuit, self._clock)


class _Watched(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, circuit: Circuit, clock: Callable[[], float]) -> None:  # noqa: A002 - Temporal's name
        super().__init__(next)
        self._circuit = circuit
        self._clock = clock

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002 - Temporal's name
        info, began = activity.info(), self._clock()
        work = (info.workflow_id, info.workflow_run_id, info.activity_id)
        policy = info.retry_policy
        final = frozenset((policy and policy.non_retryable_error_types) or ())

        def note(*, failed: bool) -> None:
            before = self._circuit.state
            self._circuit.note(work, began, failed=failed)
            if self._circuit.state is not before:
                log.warning("breaker", activity=info.activity_type, state=str(self._circuit.state), before=str(before))

        # Temporal gives it up then, whatever it comes to, and what hangs comes to nothing at all.
        limit = info.start_to_close_timeout
        deadline = asyncio.get_running_loop().call_later(limit.total_seconds(), _late, note) if limit else None
        try:
            result = await super().execute_activity(input)
        except BaseException as error:
            if not _is_over(deadline) and (failed := is_failure(error, final)) is not None:
                note(failed=failed)
            raise
        else:
            if not _is_over(deadline):
                note(failed=False)
            return result
        finally:
            if deadline:
                deadline.cancel()


def _late(note: Callable[..., None]) -> None:
    note(failed=True)


def _is_over(deadline: asyncio.TimerHandle | None) -> bool:
    return deadline is not None and asyncio.get_running_loop().time() >= deadline.when()
