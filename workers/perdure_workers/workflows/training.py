"""The workflow of one TrainingJob: from wish to adapter, or to one sentence why not."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from pydantic import ValidationError
from temporalio import workflow
from temporalio.exceptions import FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from perdure_api import names
    from perdure_api.conditions import Reason
    from perdure_api.events import EventNote
    from perdure_api.names import job_name
    from perdure_api.spec import DeadlinesSpec, RetrySpec, TrainingJobSpec
    from perdure_api.status import TrainingJobStatus
    from perdure_api.workflow import (
        GENERATION_LEAP,
        QUERY_STATUS,
        SIGNAL_CHECKPOINT,
        SIGNAL_WISHES,
        CheckpointRequest,
        JobRef,
        TrainingInput,
        Wishes,
    )
    from perdure_workers.attempts.outcome import Outcome, of_stopped
    from perdure_workers.attempts.recall import Recollection, attempt_of, recollect, suspended_seconds
    from perdure_workers.attempts.retry import Again, GiveUp, GoOn, decide
    from perdure_workers.messages import (
        AttemptEnd,
        AwaitRoom,
        CheckInputs,
        CleanUp,
        Collected,
        CollectResult,
        CreateJob,
        FindAttempts,
        Monitor,
        PublishStatus,
    )
    from perdure_workers.story import Story, rfc3339, success_sentence
    from perdure_workers.workflows import calls
    from perdure_workers.workflows.calls import Refused, together
    from perdure_workers.workflows.notes import note, warning
    from perdure_workers.workflows.place import Place
    from perdure_workers.workflows.requests import CheckpointRequests
    from perdure_workers.workflows.suspension import Suspension

WAIT_FOR_STORE: Final = (2.0, 60.0)
"""First and longest pause, in seconds, between looks at a store that does not answer."""
SUSPENDED_WITHOUT_STORE: Final = "suspended-without-store"
"""Patch: before, a job that waited for its store was suspended when that was back."""
ACKNOWLEDGED: Final = "acknowledged"
"""Patch: before, that a newer spec is known was told with whatever came next, hours later perhaps."""
WAIT_FOR_ADMISSION: Final = (2.0, 60.0)
M = TypeVar("M", Wishes, CheckpointRequest)
LAST_WORDS_SECONDS: Final = 10.0
"""What a monitor may take to tell the end of an attempt whose pods are gone."""


@workflow.defn(name=names.WORKFLOW_TYPE)
class TrainingWorkflow:
    """Carries one TrainingJob through: check → attempts → result. Cleans up on every path.

    Where workers have versions it stays with the one that it began on, until it is done or its long history is cut.
    """

    @workflow.init
    def __init__(self, wish: TrainingInput) -> None:
        """The wish, and the story so far when a long history was cut, or lost."""
        self._job = wish.job
        self._spec: TrainingJobSpec = wish.spec.completed()
        self._deadlines = self._spec.deadlines or DeadlinesSpec()
        self._story = _story_of(wish)
        self._started_at = datetime.fromisoformat(self._story.status.start_time or rfc3339(workflow.now()))
        self._wishes = Wishes(generation=wish.job.generation, suspend=wish.spec.suspend)
        suspended = wish.suspended_seconds
        if wish.recalled:
            suspended += suspended_seconds(wish.recalled, workflow.now())
        self._suspension = Suspension(lambda: self._wishes, self._story, self._publish, self._end_next, suspended)
        self._requests = CheckpointRequests(wish.job, self._tell, wish.answered)
        self._place = Place(self._spec, wish.placement)
        self._told_generation = wish.job.generation
        self._telling = 0
        """How many words on the status are on their way."""
        self._untold: list[EventNote] = []
        """Events that go with the next word on the status: no write of their own is made for them."""
        self._recall = wish.recalled is not None
        self._kueue_queue = wish.kueue_queue
        self._story.left_to_kueue(wish.kueue_queue)

    @workflow.query(name=QUERY_STATUS)
    def status(self) -> TrainingJobStatus:
        """The status as it would be published now."""
        return self._story.status

    @workflow.signal(name=SIGNAL_WISHES)
    def wish(self, wishes: Any = None, *_: Any) -> None:
        """What may change has changed. One older than what is known changes nothing, nor one of a far future."""
        wishes = _read(Wishes, wishes)
        known = self._wishes.generation
        if wishes is None or not known <= wishes.generation <= known + GENERATION_LEAP:
            return
        if wishes.kueue_queue is not None:
            # A label: it may change while the generation stays.
            self._kueue_queue = wishes.kueue_queue
            self._story.left_to_kueue(self._kueue_queue)
        if wishes.generation > known:
            self._wishes = wishes
            self._story.heard(wishes.generation)

    @workflow.signal(name=SIGNAL_CHECKPOINT)
    def emergency_checkpoint(self, request: Any = None, *_: Any) -> None:
        """The running trainer is to save now: whoever says so in words that nobody understands means it too."""
        self._requests.ask(_read(CheckpointRequest, request) or CheckpointRequest())

    @workflow.run
    async def run(self, wish: TrainingInput) -> TrainingJobStatus:  # noqa: ARG002 - __init__ has taken it
        """Never raises for anything that befalls the job: its end is in the status it returns."""
        beside = [asyncio.create_task(each) for each in (self._requests.answer(), self._acknowledge())]
        try:
            await self._within_deadline()
        except (asyncio.CancelledError, FailureError) as error:
            if not is_cancelled_exception(error):
                raise
            await asyncio.shield(self._abandon())
            await calls.end_all(beside)
            raise
        await calls.end_all(beside)
        return self._story.status

    async def _acknowledge(self) -> None:
        """Tells, for ever, that a newer spec is known: who waits for that waits for nothing that may never come."""
        while True:
            await workflow.wait_condition(self._is_to_be_acknowledged)
            # Whoever goes about something because of it tells it with that: the first turn is theirs, the second that
            # of the tasks that they make.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if self._is_to_be_acknowledged():
                self._told_generation = self._wishes.generation
                if workflow.patched(ACKNOWLEDGED):
                    known = TrainingJobStatus(observed_generation=self._told_generation)
                    await calls.publish(PublishStatus(job=self._job, status=known, acknowledgement_only=True))

    def _is_to_be_acknowledged(self) -> bool:
        # What is on its way may be of an older spec, and must not be taken for what became of this one.
        return self._wishes.generation > self._told_generation and not self._telling

    async def _within_deadline(self) -> None:
        if self._deadlines.active_seconds is None:
            await self._carry_through()
            return
        work = asyncio.create_task(self._carry_through())
        try:
            while not work.done() and (left := self._active_seconds_left()) > 0:
                await workflow.wait([work], timeout=left)
                # While it is suspended no time of it passes.
                await workflow.wait_condition(lambda: work.done() or not self._suspension.since)
        except asyncio.CancelledError:
            await calls.end(work)
            raise
        if work.done():
            work.result()
            return
        await calls.end(work)
        seconds = self._deadlines.active_seconds
        message = f"not finished within deadlines.activeSeconds ({seconds} s); its newest checkpoint is kept"
        await self._clean_up()
        await self._fail(Reason.DEADLINE_EXCEEDED, message)

    def _active_seconds_left(self) -> float:
        active = (workflow.now() - self._started_at).total_seconds() - self._suspension.seconds
        return (self._deadlines.active_seconds or 0) - active

    async def _carry_through(self) -> None:
        try:
            recollection = await self._recollect() if self._recall else Recollection()
            if recollection.completed is not None:
                collected = await self._collect(recollection.completed)
            else:
                collected = await self._train(recollection.under_way)
        except Refused as refused:
            await self._fail(refused.reason, refused.message)
            return
        self._story.succeeded(collected, workflow.now())
        await self._publish(note(Reason.COMPLETED, success_sentence(collected)))

    # A lost history

    async def _recollect(self) -> Recollection:
        """Finds where the job was, tells so, and ends what may still run of attempts that count no more.

        Where an attempt is followed, that does not wait for pods on nodes that do not answer: it runs beside them
        anyhow.
        """
        found = (await calls.find_attempts(FindAttempts(job=self._job))).attempts
        recollection = recollect(self._story.status, found)
        if not self._wishes.suspend:
            self._story.not_suspended(workflow.now(), self._suspension.seconds)
        self._story.recalled(recollection, found, workflow.now())
        if attempts := self._story.status.attempts:
            self._place.recall(attempts[-1])
        await self._publish(warning(Reason.RECALLED, self._story.status.message or ""))
        for number in recollection.leftovers:
            if recollection.under_way is None:
                await self._clean_up(attempt=number)
            else:
                await calls.clean_up(CleanUp(job=self._job, attempt=number))
        return recollection

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
                checked = await calls.check_inputs(CheckInputs(job=self._job, spec=self._spec))
            except Refused as refused:
                if refused.reason is not Reason.STORE_UNAVAILABLE:
                    self._story.input_refused(refused.reason, refused.message, workflow.now(), refused.about)
                    raise
                self._story.checking(workflow.now(), problem=refused.message)
                await self._publish(warning(refused.reason, refused.message))
                if workflow.patched(SUSPENDED_WITHOUT_STORE):
                    await self._suspension.pause(pause)
                    await self._suspension.wait_for_end()
                else:
                    await asyncio.sleep(pause)
                pause = min(longest, pause * 2)
                self._cut_long_history()
            else:
                self._story.checked(checked.reason, checked.message, workflow.now())
                return

    # Attempts

    async def _train(self, under_way: int | None) -> Collected:
        """Attempts until one completes.

        Args:
            under_way: One that has begun already; None: none has.

        Raises:
            Refused: no further attempt makes sense; or the inputs are none to begin the first with.
        """
        retry = self._spec.retry or RetrySpec()
        if under_way is None:
            await self._suspension.wait_for_end()
            await self._check_inputs()
        while True:
            if under_way is None:
                number, end = await self._next_attempt()
            else:
                number, end, under_way = under_way, await self._recalled_attempt(under_way), None
            self._story.attempt_ended(end, workflow.now())
            if end.outcome.pod_remains:
                await self._clean_up(attempt=number)
            match decide(end.outcome, self._story.counters, retry):
                case GoOn():
                    return await self._collect(number)
                case GiveUp(reason, message):
                    if not await self._fall_back(end.outcome):
                        raise Refused(reason, message)
                case Again(after_seconds) if after_seconds or not self._wishes.suspend:
                    self._story.retrying(after_seconds, workflow.now())
                    told = warning(end.outcome.reason, self._story.status.message or end.outcome.message)
                    await self._publish(told)
                    await self._suspension.pause(after_seconds)

    async def _fall_back(self, outcome: Outcome) -> bool:
        """Whether the next attempt is tried elsewhere."""
        elsewhere = self._place.fall_back(outcome)
        if elsewhere is None:
            return False
        self._story.falling_back(elsewhere, workflow.now())
        await self._publish(warning(outcome.reason, self._story.status.message or outcome.message))
        return True

    async def _next_attempt(self) -> tuple[int, AttemptEnd]:
        """Its number, and how it ended."""
        self._cut_long_history()
        await self._suspension.wait_for_end()
        spec = self._place.spec
        where = self._place.sentence
        number = self._story.attempt_started(workflow.now(), spec.nodes, self._place.alternative, where)
        if where:
            self._untold.append(note(Reason.STARTING, self._story.status.message or where))
        return number, await self._attempt(number, spec)

    async def _attempt(self, number: int, spec: TrainingJobSpec) -> AttemptEnd:
        started_at = workflow.now().timestamp()
        starting = together(self._create_job(number, spec), self._publish())
        if not await self._suspension.unless_it_comes(starting):
            await self._clean_up(attempt=number)
            return AttemptEnd(outcome=of_stopped(None, Reason.SUSPENDED, built_in=self._spec.built_in))
        return await self._to_its_end(number, spec, started_at)

    async def _recalled_attempt(self, number: int) -> AttemptEnd:
        """The end of an attempt that had begun when the history was lost."""
        told = attempt_of(self._story.status, number)
        started_at = datetime.fromisoformat(told.start_time) if told else workflow.now()
        return await self._to_its_end(number, self._place.spec, started_at.timestamp())

    async def _to_its_end(self, number: int, spec: TrainingJobSpec, started_at: float) -> AttemptEnd:
        request = Monitor(
            job=self._job,
            attempt=number,
            job_name=job_name(self._job.name, number),
            started_at=started_at,
            start_seconds=self._deadlines.start_seconds,
            permanent_exit_codes=(self._spec.retry or RetrySpec()).non_retryable_exit_codes,
            nodes=spec.nodes,
            progress_seconds=self._deadlines.progress_seconds,
            stacks_uri=_stacks_uri(self._job, spec, number),
            fenced=self._spec.built_in,
        )
        missing = self._place.missing
        if not missing:
            return await self._follow(request)
        awaited = AwaitRoom(job=self._job, spec=spec, attempt=number, missing=missing)
        room = asyncio.create_task(calls.await_room(awaited))
        try:
            end = await self._follow(request, room)
        except asyncio.CancelledError:
            await calls.end(room)
            raise
        await calls.end(room)
        await self._clean_up(attempt=names.RESERVATION)
        if end.outcome.reason is not Reason.REGROWN:
            message = f"attempt {number} has ended; the nodes that it lacked ({missing}) are asked for no longer"
            self._untold.append(note(Reason.FINISHED, message))
        return end

    async def _follow(self, request: Monitor, room: asyncio.Task[None] | None = None) -> AttemptEnd:
        """The end of an attempt, by itself, because the job is suspended, or because all its nodes are to be had."""
        monitor = asyncio.create_task(calls.monitor(request))
        self._requests.attempt = request.attempt
        try:
            await workflow.wait_condition(
                lambda: monitor.done() or self._wishes.suspend or (room is not None and room.done())
            )
            if monitor.done():
                return monitor.result()
            reason = Reason.SUSPENDED if self._wishes.suspend else Reason.REGROWN
            await self._stop_attempt(request.attempt, reason)
            await workflow.wait([monitor], timeout=LAST_WORDS_SECONDS)
        except asyncio.CancelledError:
            await calls.end(monitor)
            raise
        finally:
            self._requests.attempt = None
        end = monitor.result() if monitor.done() else None
        await calls.end(monitor)
        outcome = of_stopped(end.outcome if end else None, reason, built_in=self._spec.built_in)
        return end.model_copy(update={"outcome": outcome}) if end else AttemptEnd(outcome=outcome)

    async def _stop_attempt(self, number: int, reason: Reason) -> None:
        """Has an attempt save and end."""
        if reason is Reason.SUSPENDED:
            self._story.suspending(workflow.now())
            await together(self._clean_up(attempt=number), self._publish())
            return
        self._story.regrowing(workflow.now())
        self._place.regrow()
        told = note(Reason.REGROWN, self._story.status.message or "regrown", number)
        await together(self._clean_up(attempt=number), self._publish(told))

    async def _create_job(self, number: int, spec: TrainingJobSpec) -> None:
        """Creates the attempt's Job, however long quota or admission refuse it, up to startSeconds."""
        request = CreateJob(job=self._job, spec=spec, attempt=number, kueue_queue=self._kueue_queue)
        give_up_at = workflow.now() + timedelta(seconds=self._deadlines.start_seconds)
        pause, longest = WAIT_FOR_ADMISSION
        while True:
            try:
                await calls.create_job(request)
            except Refused as refused:
                if refused.reason is not Reason.JOB_REFUSED or workflow.now() >= give_up_at:
                    raise
                self._story.start_refused(refused.message, workflow.now())
                await self._publish(warning(refused.reason, refused.message))
                await asyncio.sleep(pause)
                pause = min(longest, pause * 2)
            else:
                return

    async def _collect(self, number: int) -> Collected:
        if not self._spec.output:
            return Collected()
        request = CollectResult(job=self._job, spec=self._spec, attempt=number)
        try:
            return await calls.collect_result(request, retry_policy=calls.BUT_FOR_THE_STORE)
        except Refused as refused:
            if refused.reason is not Reason.STORE_UNAVAILABLE:
                raise
            self._story.collecting(refused.message, workflow.now())
            await self._publish(warning(refused.reason, self._story.status.message or refused.message))
        # Told once is enough, and what the server tries again by itself makes no history longer.
        return await calls.collect_result(request)

    def _cut_long_history(self) -> None:
        if workflow.info().is_continue_as_new_suggested():
            workflow.continue_as_new(
                TrainingInput(
                    job=self._job.model_copy(update={"generation": self._wishes.generation}),
                    spec=self._spec.model_copy(update={"suspend": self._wishes.suspend}),
                    carried=self._story.status,
                    suspended_seconds=self._suspension.seconds,
                    answered=self._requests.answered,
                    placement=self._place.now,
                    kueue_queue=self._kueue_queue,
                ),
                # A new run has no past to repeat: it begins on the current version, and stays with that.
                initial_versioning_behavior=workflow.ContinueAsNewVersioningBehavior.AUTO_UPGRADE,
            )

    # Ends

    async def _fail(self, reason: Reason, message: str) -> None:
        self._story.failed(reason, message, workflow.now())
        await self._publish(warning(reason, message))

    async def _abandon(self) -> None:
        """Cancelled: nothing of the job may stay; what it has saved does."""
        await self._clean_up()
        await self._fail(Reason.CANCELLED, "cancelled; its newest checkpoint is kept")

    async def _clean_up(self, attempt: int | None = None) -> None:
        # A trainer that is not ours knows of no fence: what may still run of it is waited for, unless all is over.
        until_gone = attempt is not None and not self._spec.built_in
        await calls.clean_up(CleanUp(job=self._job, attempt=attempt, until_gone=until_gone))

    async def _end_next(self) -> None:
        await self._clean_up(attempt=self._story.counters.started + 1)

    async def _publish(self, *notes: EventNote) -> None:
        told, self._untold = [*self._untold, *notes], []
        self._told_generation = self._wishes.generation
        status = self._story.status_as_of(workflow.now())
        self._telling += 1
        try:
            await calls.publish(PublishStatus(job=self._job, status=status, notes=told))
        finally:
            self._telling -= 1

    async def _tell(self, event: EventNote) -> None:
        await calls.publish(PublishStatus(job=self._job, status=self._story.status, notes=[event], notes_only=True))


def _story_of(wish: TrainingInput) -> Story:
    if wish.carried:
        return Story(wish.job, wish.carried)
    if wish.recalled:
        return Story.recall(wish.job, wish.recalled, workflow.info().run_id)
    return Story.begin(wish.job, workflow.info().run_id, workflow.now())


def _stacks_uri(job: JobRef, spec: TrainingJobSpec, attempt: int) -> str | None:
    """Where the stacks of an attempt that hung are kept."""
    if not spec.output or spec.deadlines is None or spec.deadlines.progress_seconds is None:
        return None
    return f"{names.attempt_uri(names.run_uri(spec.output.uri, job.uid), attempt)}/stacks.txt"


def _read(kind: type[M], argument: object) -> M | None:
    """A signal's argument; None for one that is none: anybody may send anything, and it must not stop the workflow."""
    try:
        return kind.model_validate(argument)
    except ValidationError as error:
        workflow.logger.warning("signal of another shape: %s", error)
        return None
