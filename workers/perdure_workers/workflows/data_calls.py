"""How workflows call what needs the libraries of data work: time limits, retries, and what a refusal becomes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final, TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from pydantic import BaseModel

    from perdure_api import names
    from perdure_workers.messages import ActivityName
    from perdure_workers.workflows.calls import FOR_EVER

Answer = TypeVar("Answer", bound=BaseModel)

HEARTBEAT: Final = timedelta(seconds=60)
LONGEST: Final = timedelta(hours=6)


async def call(activity: ActivityName, request: BaseModel, answer: type[Answer], **options: Any) -> Answer:
    """What an activity answers; waits in the queue while nobody serves it.

    Raises:
        ApplicationError: it is refused, in the activity's own words.
    """
    try:
        found: Answer = await workflow.execute_activity(
            activity,
            request,
            result_type=answer,
            task_queue=names.TASK_QUEUE_DATA,
            start_to_close_timeout=LONGEST,
            heartbeat_timeout=HEARTBEAT,
            retry_policy=FOR_EVER,
            **options,
        )
    except ActivityError as error:
        told = error.cause
        if isinstance(told, ApplicationError) and told.non_retryable:
            raise ApplicationError(told.message, type=told.type, non_retryable=True) from error
        raise
    return found
