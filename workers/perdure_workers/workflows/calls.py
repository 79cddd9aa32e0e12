"""How the workflow calls each activity: time limits, retries, and what a refusal becomes."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, FailureError

with workflow.unsafe.imports_passed_through():
    from perdure_api import names
    from perdure_api.conditions import Reason
    from perdure_api.status import ResultStatus
    from perdure_api.workflow import JobRef
    from perdure_workers.messages import (
        ActivityName,
        AttemptEnd,
        AttemptsFound,
        AwaitRoom,
        CancelTrainingJob,
        CheckInputs,
        CleanUp,
        Collected,
        CollectResult,
        CommandAttempt,
        CreateJob,
        DeleteCheckpoints,
        FindAttempts,
        FollowTrainingJob,
        Input,
        InputsChecked,
        Monitor,
        PublishStatus,
        SubmitTrainingJob,
    )

FOR_EVER: Final = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30))
"""What must happen happens when the cluster is back, however long that takes."""
BUT_FOR_THE_STORE: Final = dataclasses.replace(FOR_EVER, non_retryable_error_types=[str(Reason.STORE_UNAVAILABLE)])
"""The same, but that the store is away comes back at once, to be told."""

SHORT: Final = timedelta(seconds=45)
AT_ONCE: Final = timedelta(seconds=1)
"""Pauses up to this are waited for within the workflow's task, which holds one of the worker's few slots."""
HEARTBEAT: Final = timedelta(seconds=60)
AGES: Final = timedelta(days=3650)


class Refused(Exception):
    """The job cannot go on; told as a sentence."""

    def __init__(self, reason: Reason, message: str, about: Input = Input.DATASET) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.about = about
        """Where it is about an input."""


async def check_inputs(request: CheckInputs) -> InputsChecked:
    """Reads model and dataset.

    Raises:
        Refused: they cannot be trained with, or (StoreUnavailable) cannot be read now.
    """
    with _refusals():
        checked: InputsChecked = await workflow.execute_activity(
            ActivityName.CHECK_INPUTS,
            request,
            result_type=InputsChecked,
            start_to_close_timeout=timedelta(hours=6),
            heartbeat_timeout=HEARTBEAT,
            retry_policy=FOR_EVER,
        )
    return checked


async def create_job(request: CreateJob) -> None:
    """Creates an attempt's Job.

    Raises:
        Refused: the API server does not take it; with JobRefused it may another time.
    """
    with _refusals():
        await workflow.execute_local_activity(
            ActivityName.CREATE_TRAINING_JOB,
            request,
            start_to_close_timeout=SHORT,
            retry_policy=FOR_EVER,
            local_retry_threshold=AT_ONCE,
            # A creation that is under way when the job is cancelled must be over before clean-up looks.
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )


async def find_attempts(request: FindAttempts) -> AttemptsFound:
    """Looks what attempts the cluster shows."""
    found: AttemptsFound = await workflow.execute_activity(
        ActivityName.FIND_ATTEMPTS,
        request,
        result_type=AttemptsFound,
        start_to_close_timeout=SHORT,
        retry_policy=FOR_EVER,
    )
    return found


async def monitor(request: Monitor) -> AttemptEnd:
    """Follows an attempt to its end."""
    end: AttemptEnd = await workflow.execute_activity(
        ActivityName.MONITOR_TRAINING,
        request,
        result_type=AttemptEnd,
        activity_id=f"monitor-{request.attempt}",
        task_queue=names.TASK_QUEUE_WATCH,
        start_to_close_timeout=AGES,
        heartbeat_timeout=HEARTBEAT,
        retry_policy=FOR_EVER,
        # A monitor hears of its cancellation with a heartbeat only; clean-up does not wait for that.
        cancellation_type=workflow.ActivityCancellationType.TRY_CANCEL,
    )
    return end


async def await_room(request: AwaitRoom) -> None:
    """Waits until there is room for the nodes that an attempt lacks, and holds it."""
    await workflow.execute_activity(
        ActivityName.AWAIT_ROOM,
        request,
        task_queue=names.TASK_QUEUE_WATCH,
        start_to_close_timeout=AGES,
        heartbeat_timeout=HEARTBEAT,
        retry_policy=FOR_EVER,
        cancellation_type=workflow.ActivityCancellationType.TRY_CANCEL,
    )


async def command_attempt(request: CommandAttempt) -> bool:
    """Has an attempt's trainer told something; whether the attempt was still there."""
    told: bool = await workflow.execute_activity(
        ActivityName.COMMAND_ATTEMPT,
        request,
        result_type=bool,
        start_to_close_timeout=SHORT,
        retry_policy=FOR_EVER,
    )
    return told


async def collect_result(request: CollectResult, *, retry_policy: RetryPolicy = FOR_EVER) -> Collected:
    """Reads what a completed attempt made.

    Raises:
        Refused: it made nothing, or something broken; or, with BUT_FOR_THE_STORE, it cannot be read now.
    """
    with _refusals():
        collected: Collected = await workflow.execute_activity(
            ActivityName.COLLECT_RESULT,
            request,
            result_type=Collected,
            start_to_close_timeout=timedelta(minutes=5),
            retry_policy=retry_policy,
        )
    if collected.problem:
        raise Refused(Reason.PROTOCOL_ERROR, collected.problem)
    return collected


async def clean_up(request: CleanUp) -> None:
    """Removes Jobs and pods."""
    await workflow.execute_activity(
        ActivityName.CLEANUP_RESOURCES,
        request,
        start_to_close_timeout=AGES if request.until_gone else timedelta(minutes=5),
        heartbeat_timeout=HEARTBEAT,
        retry_policy=FOR_EVER,
    )


async def delete_checkpoints(request: DeleteCheckpoints) -> None:
    """Deletes what a run keeps only to go on from."""
    await workflow.execute_activity(
        ActivityName.DELETE_CHECKPOINTS,
        request,
        start_to_close_timeout=timedelta(hours=1),
        heartbeat_timeout=HEARTBEAT,
        retry_policy=FOR_EVER,
    )


async def publish(request: PublishStatus) -> None:
    """Writes the status, and Events."""
    await workflow.execute_local_activity(
        ActivityName.PUBLISH_STATUS,
        request,
        start_to_close_timeout=SHORT,
        retry_policy=FOR_EVER,
        local_retry_threshold=AT_ONCE,
    )


async def submit_training_job(request: SubmitTrainingJob) -> JobRef:
    """Makes a TrainingJob; one that the same workflow has made is as good.

    Raises:
        Refused: it cannot be made.
    """
    with _refusals():
        job: JobRef = await workflow.execute_activity(
            ActivityName.SUBMIT_TRAINING_JOB,
            request,
            result_type=JobRef,
            start_to_close_timeout=SHORT,
            retry_policy=FOR_EVER,
            # One that is being made when the workflow is cancelled must be there before it is cancelled too.
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )
    return job


async def follow_training_job(request: FollowTrainingJob) -> ResultStatus:
    """Waits for the end of a TrainingJob; what came out of it.

    Raises:
        Refused: it did not succeed.
    """
    with _refusals():
        result: ResultStatus = await workflow.execute_activity(
            ActivityName.FOLLOW_TRAINING_JOB,
            request,
            result_type=ResultStatus,
            task_queue=names.TASK_QUEUE_WATCH,
            start_to_close_timeout=AGES,
            heartbeat_timeout=HEARTBEAT,
            retry_policy=FOR_EVER,
            cancellation_type=workflow.ActivityCancellationType.TRY_CANCEL,
        )
    return result


async def cancel_training_job(request: CancelTrainingJob) -> None:
    """Has a TrainingJob end."""
    await workflow.execute_activity(
        ActivityName.CANCEL_TRAINING_JOB, request, start_to_close_timeout=SHORT, retry_policy=FOR_EVER
    )


async def together(*work: Coroutine[None, None, None]) -> None:
    """Waits for all of it, whatever becomes of each, then raises the first failure.

    A workflow that ends while a local activity is still out gets an order of commands that the server refuses for ever.
    """
    tasks = [asyncio.create_task(each) for each in work]
    try:
        await workflow.wait(tasks)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        await workflow.wait(tasks)
        raise
    for task in tasks:
        task.result()


async def end(task: asyncio.Task[Any]) -> None:
    """Cancels a task that is not done, and waits until it has ended; its own end is nobody's concern any more.

    Not to be used in a `finally`: a workflow that is dropped from a worker's memory may wait for nothing there.
    """
    task.cancel()
    await workflow.wait([task])
    if not task.cancelled():
        task.exception()  # looked at, or the loop complains that nobody did


async def end_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """The same for several, one after another."""
    for task in tasks:
        await end(task)


@contextmanager
def _refusals() -> Iterator[None]:
    """What an activity refuses within is raised as Refused."""
    try:
        yield
    except FailureError as error:
        raise _as_refused(error) from error


def _as_refused(error: FailureError) -> Refused:
    """The refusal that an activity told; anything else goes on as it is.

    An activity's error comes wrapped in an ActivityError, a local activity's comes bare.
    """
    told = error.cause if isinstance(error, ActivityError) else error
    if isinstance(told, ApplicationError) and told.type in set(Reason):
        about = Input(told.details[0]) if told.details else Input.DATASET
        return Refused(Reason(told.type), told.message, about)
    raise error
