"""The workflow of one TrainingJob: from wish to adapter, or to one sentence why not."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Final

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from perdure_api import names
    from perdure_api.conditions import Reason
    from perdure_api.events import EventKind, EventNote
    from perdure_api.names import job_name
    from perdure_api.spec import DeadlinesSpec, ResourcesSpec, RetrySpec, TrainingJobSpec
    from perdure_api.status import TrainingJobStatus
    from perdure_api.workflow import QUERY_STATUS, TrainingInput
    from perdure_workers.attempts.retry import Again, GiveUp, GoOn, decide
    from perdure_workers.messages import (
        ActivityName,
        AttemptEnd,
        CheckInputs,
        CleanUp,
        Collected,
        CollectResult,
        CreateJob,
        InputsChecked,
        Monitor,
        PublishStatus,
    )
    from perdure_workers.story import Story, rfc3339, success_sentence

FOR_EVER: Final = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30))
"""What must happen happens when the cluster is back, however long that takes."""

SHORT: Final = timedelta(seconds=45)
HEARTBEAT: Final = timedelta(seconds=60)
AGES: Final = timedelta(days=3650)

WAIT_FOR_STORE: Final = (2.0, 60.0)
"""First and longest pause, in seconds, between looks at a store that does not answer."""
WAIT_FOR_ADMISSION: Final = (2.0, 60.0)


class _Refused(Exception):
    """The job cannot go on; told as a sentence."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@workflow.defn(name=names.WORKFLOW_TYPE)
class TrainingWorkflow:
    """Carries one TrainingJob through: check → attempts → result. Cleans up on every path."""

    @workflow.init
    def __init__(self, wish: TrainingInput) -> None:
        """The wish, and the story so far when a long history was cut."""
        self._job = wish.job
        self._spec: TrainingJobSpec = wish.spec.completed()
        self._deadlines = self._spec.deadlines or DeadlinesSpec()
        self._story = (
            Story(wish.job, wish.carried)
            if wish.carried
            else Story.begin(wish.job, workflow.info().run_id, workflow.now())
        )
        self._started_at = datetime.fromisoformat(self._story.status.start_time or rfc3339(workflow.now()))

    @workflow.query(name=QUERY_STATUS)
    def status(self) -> TrainingJobStatus:
        """The status as it would be published now."""
        return self._story.status

    @workflow.run
    async def run(self, wish: TrainingInput) -> TrainingJobStatus:  # noqa: ARG002 - __init__ has taken it
        """Never raises for anything that befalls the job: its end is in the status it returns."""
        try:
            await self._within_deadline()
        except (asyncio.CancelledError, FailureError) as error:
            if not is_cancelled_exception(error):
                raise
            await asyncio.shield(self._abandon())
            raise
        return self._story.status

    async def _within_deadline(self) -> None:
        seconds = self._deadlines.active_seconds
        if seconds is None:
            await self._carry_through()
            return
        left = seconds - (workflow.now() - self._started_at).total_seconds()
        work = asyncio.create_task(self._carry_through())
        try:
            done, _ = await workflow.wait([work], timeout=max(0.0, left))
        finally:
            work.cancel()  # no effect on work that is done
            await workflow.wait([work])
        if done:
            work.result()
            return
        message = f"not finished within deadlines.activeSeconds ({seconds} s); its newest checkpoint is kept"
        await self._clean_up()
        await self._fail(Reason.DEADLINE_EXCEEDED, message)

    async def _carry_through(self) -> None:
        try:
            await self._check_inputs()
            collected = await self._train()
        except _Refused as refused:
            await self._fail(refused.reason, refused.message)
            return
        self._story.succeeded(collected, workflow.now())
        await self._publish(
            EventNote(kind=EventKind.NORMAL, reason=Reason.COMPLETED, message=success_sentence(collected))
        )

    # Inputs

    async def _check_inputs(self) -> None:
        if self._story.counters.started:
            return  # an earlier run of this workflow has done it
        if not self._spec.built_in:
            self._story.checked(Reason.NOT_CHECKED, "trainer.command is set: its data is its own", workflow.now())
            return
        self._story.checking(workflow.now())
        await self._publish()
        pause, longest = WAIT_FOR_STORE
        while True:
            try:
                checked = await self._look_at_inputs()
            except _Refused as refused:
                if refused.reason is not Reason.STORE_UNAVAILABLE:
                    self._story.input_refused(refused.reason, refused.message, workflow.now())
                    raise
                self._story.checking(workflow.now(), problem=refused.message)
                await self._publish(_warning(refused.reason, refused.message))
                await asyncio.sleep(pause)
                pause = min(longest, pause * 2)
            else:
                self._story.checked(Reason.DATASET_CHECKED, checked.message, workflow.now())
                return

    async def _look_at_inputs(self) -> InputsChecked:
        try:
            checked: InputsChecked = await workflow.execute_activity(
                ActivityName.CHECK_INPUTS,
                CheckInputs(job=self._job, spec=self._spec),
                result_type=InputsChecked,
                start_to_close_timeout=timedelta(hours=6),
                heartbeat_timeout=HEARTBEAT,
                retry_policy=FOR_EVER,
            )
        except FailureError as error:
            raise _as_refused(error) from error
        return checked

    # Attempts

    async def _train(self) -> Collected:
        """Attempts until one completes.

        Raises:
            _Refused: no further attempt makes sense.
        """
        retry = self._spec.retry or RetrySpec()
        while True:
            self._cut_long_history()
            number = self._story.attempt_started(workflow.now())
            end = await self._attempt(number)
            self._story.attempt_ended(end, workflow.now())
            if end.outcome.pod_remains:
                await self._clean_up(attempt=number)
            match decide(end.outcome, self._story.counters, retry):
                case GoOn():
                    return await self._collect(number)
                case GiveUp(reason, message):
                    raise _Refused(reason, message)
                case Again(after_seconds):
                    self._story.retrying(after_seconds, workflow.now())
                    note = _warning(end.outcome.reason, self._story.status.message or end.outcome.message)
                    await self._publish(note)
                    await asyncio.sleep(after_seconds)

    async def _attempt(self, number: int) -> AttemptEnd:
        started_at = workflow.now().timestamp()
        await _together(self._create_job(number), self._publish())
        request = Monitor(
            job=self._job,
            attempt=number,
            job_name=job_name(self._job.name, number),
            started_at=started_at,
            start_seconds=self._deadlines.start_seconds,
            permanent_exit_codes=(self._spec.retry or RetrySpec()).non_retryable_exit_codes,
            nodes=(self._spec.resources or ResourcesSpec()).nodes,
        )
        end: AttemptEnd = await workflow.execute_activity(
            ActivityName.MONITOR_TRAINING,
            request,
            result_type=AttemptEnd,
            activity_id=f"monitor-{number}",
            task_queue=names.TASK_QUEUE_WATCH,
            start_to_close_timeout=AGES,
            heartbeat_timeout=HEARTBEAT,
            retry_policy=FOR_EVER,
            # A monitor hears of its cancellation with a heartbeat only; clean-up does not wait for that.
            cancellation_type=workflow.ActivityCancellationType.TRY_CANCEL,
        )
        return end

    async def _create_job(self, number: int) -> None:
        """Creates the attempt's Job, however long quota or admission refuse it, up to startSeconds."""
        give_up_at = workflow.now() + timedelta(seconds=self._deadlines.start_seconds)
        pause, longest = WAIT_FOR_ADMISSION
        while True:
            try:
                await workflow.execute_local_activity(
                    ActivityName.CREATE_TRAINING_JOB,
                    CreateJob(job=self._job, spec=self._spec, attempt=number),
                    start_to_close_timeout=SHORT,
                    retry_policy=FOR_EVER,
                    # A creation that is under way when the job is cancelled must be over before clean-up looks.
                    cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
                )
            except FailureError as error:
                refused = _as_refused(error)
                if refused.reason is not Reason.JOB_REFUSED or workflow.now() >= give_up_at:
                    raise refused from error
                self._story.start_refused(refused.message, workflow.now())
                await self._publish(_warning(refused.reason, refused.message))
                await asyncio.sleep(pause)
                pause = min(longest, pause * 2)
            else:
                return

    async def _collect(self, number: int) -> Collected:
        if not self._spec.output:
            return Collected()
        collected: Collected = await workflow.execute_activity(
            ActivityName.COLLECT_RESULT,
            CollectResult(job=self._job, spec=self._spec, attempt=number),
            result_type=Collected,
            start_to_close_timeout=timedelta(minutes=5),
            retry_policy=FOR_EVER,
        )
        if collected.problem:
            raise _Refused(Reason.PROTOCOL_ERROR, collected.problem)
        return collected

    def _cut_long_history(self) -> None:
        if workflow.info().is_continue_as_new_suggested():
            workflow.continue_as_new(TrainingInput(job=self._job, spec=self._spec, carried=self._story.status))

    # Ends

    async def _fail(self, reason: Reason, message: str) -> None:
        self._story.failed(reason, message, workflow.now())
        await self._publish(_warning(reason, message))

    async def _abandon(self) -> None:
        """Cancelled: nothing of the job may stay; what it has saved does."""
        await self._clean_up()
        await self._fail(Reason.CANCELLED, "cancelled; its newest checkpoint is kept")

    async def _clean_up(self, attempt: int | None = None) -> None:
        await workflow.execute_activity(
            ActivityName.CLEANUP_RESOURCES,
            CleanUp(job=self._job, attempt=attempt),
            start_to_close_timeout=timedelta(minutes=5),
            heartbeat_timeout=HEARTBEAT,
            retry_policy=FOR_EVER,
        )

    async def _publish(self, *notes: EventNote) -> None:
        await workflow.execute_local_activity(
            ActivityName.PUBLISH_STATUS,
            PublishStatus(job=self._job, status=self._story.status, notes=list(notes)),
            start_to_close_timeout=SHORT,
            retry_policy=FOR_EVER,
        )


def _warning(reason: Reason, message: str) -> EventNote:
    return EventNote(kind=EventKind.WARNING, reason=reason, message=message)


async def _together(*work: Coroutine[None, None, None]) -> None:
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


def _as_refused(error: FailureError) -> _Refused:
    """The refusal that an activity told; anything else goes on as it is.

    An activity's error comes wrapped in an ActivityError, a local activity's comes bare.
    """
    told = error.cause if isinstance(error, ActivityError) else error
    if isinstance(told, ApplicationError) and told.type in set(Reason):
        return _Refused(Reason(told.type), told.message)
    raise error
