"""One TrainingJob at a time: what was seen of it, what is to be done, doing it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, Literal, assert_never

import structlog

from perdure_api.conditions import ConditionType
from perdure_api.spec import TrainingJobSpec
from perdure_api.status import TrainingJobStatus
from perdure_api.workflow import TrainingInput
from perdure_control.logs import about
from perdure_control.statuses import Written
from perdure_operator import answers
from perdure_operator.decision import (
    AskCheckpoint,
    Decision,
    Reject,
    Start,
    Step,
    TellFailure,
    TellPlace,
    TellWishes,
    Told,
    Wait,
    decide,
)
from perdure_operator.deletion import Deletions
from perdure_operator.observation import Observation
from perdure_operator.recall import recall
from perdure_operator.services import Services
from perdure_operator.speaker import Speaker
from perdure_operator.tracker import Tracked
from perdure_operator.workflows import Standing, TemporalUnavailable

log: structlog.stdlib.BoundLogger = structlog.get_logger()

Words = (
    Reject
    | TellPlace
    | TellFailure
    | Literal[Step.WITHDRAW, Step.LEAVE_QUEUE, Step.TAKE_BACK, Step.GOES_ON, Step.ACKNOWLEDGE]
)
"""Decisions to say something on the object."""


class Reconciler:
    """Brings TrainingJobs and their workflows together."""

    def __init__(self, services: Services) -> None:
        self._objects = services.objects
        self._workflows = services.workflows
        self._tracker = services.tracker
        self._turns = services.turns
        self._metrics = services.metrics
        self._speaker = Speaker(services)
        self._deletions = Deletions(services, self._speaker)
        self._address = services.temporal_address
        self._patience = services.patience
        self._now = services.now
        self._waiting: set[str] = set()
        self._queue = services.queue

    def temporal_is_back(self) -> None:
        """Has everything looked at that waited for Temporal."""
        waiting, self._waiting = self._waiting, set()
        for uid in waiting:
            self._queue.add(uid)

    async def reconcile(self, uid: str) -> None:
        """Does what is to be done about one object.

        Raises:
            ClusterError: the API server is away or refuses.
            RPCError: Temporal refuses what was asked about this object.
        """
        tracked = self._tracker.get(uid)
        if tracked is None:
            return
        job = tracked.seen.job
        with structlog.contextvars.bound_contextvars(**about(job)):
            try:
                await self._reconcile(tracked)
            except TemporalUnavailable:
                self._waiting.add(uid)
                await self._wait_for_temporal(tracked)
                self._metrics.reconciles.labels(result="waiting_for_temporal").inc()
            except Exception:
                self._metrics.reconciles.labels(result="failed").inc()
                raise

    async def _reconcile(self, tracked: Tracked) -> None:
        self._turns.note(tracked)
        if tracked.gone:
            await self._bury(tracked)
            return
        decision = decide(
            tracked.seen,
            started=tracked.started,
            now=self._now(),
            told=tracked.informed,
            turn=tracked.turn,
            failure=tracked.failure,
        )
        await self._carry_out(decision, tracked)
        name = decision.value if isinstance(decision, Step) else type(decision).__name__.lower()
        self._metrics.reconciles.labels(result=name).inc()

    async def _carry_out(self, decision: Decision, tracked: Tracked) -> None:
        match decision:
            case Start(spec):
                await self._start(tracked, spec)
            case Wait(until):
                self._queue.add_after(tracked.seen.job.uid, (until - self._now()).total_seconds())
            case TellWishes() | AskCheckpoint() | Step.CANCEL:
                await self._inform(decision, tracked)
            case Step.REST:
                return
            case Step.RELEASE:
                await self._deletions.let_go(tracked, why="forced")
            case Step.END:
                await self._deletions.end(tracked)
            case Step.EXPIRE:
                log.info("trainingjob_expired", ttl_seconds=tracked.seen.ttl_seconds)
                await self._objects.delete(tracked.seen.job)
            case _:
                await self._say(decision, tracked)

    async def _say(self, decision: Words, tracked: Tracked) -> None:
        """Publishes what is to be said; the watch brings the news of it, and with that the next step."""
        match decision:
            case Reject(problem):
                await self._publish_failed(tracked, answers.rejected(tracked.seen, problem, self._now()))
            case Step.WITHDRAW:
                await self._publish_failed(tracked, answers.withdrawn(tracked.seen, self._now()))
            case TellPlace(place):
                await self._speaker.publish(tracked, answers.queued(tracked.seen, place, self._now()))
            case Step.LEAVE_QUEUE:
                await self._speaker.publish(tracked, answers.left_queue(tracked.seen, self._now()))
            case TellFailure(problem):
                await self._speaker.publish(tracked, answers.failing(tracked.seen, problem, self._now()))
                await self._speaker.tell_once(tracked, answers.note_failing(problem))
            case Step.GOES_ON:
                await self._speaker.publish(tracked, answers.goes_on(tracked.seen, self._now()))
            case Step.TAKE_BACK:
                await self._speaker.publish(tracked, answers.nothing())
            case Step.ACKNOWLEDGE:
                await self._speaker.publish(tracked, answers.acknowledged(tracked.seen))
            case _:
                assert_never(decision)

    # starting

    async def _start(self, tracked: Tracked, spec: TrainingJobSpec) -> None:
        if self._workflows.problem is not None:
            # Not even the finalizer: what was never started can be deleted freely.
            raise TemporalUnavailable(self._workflows.problem)
        generation = tracked.seen.job.generation
        # One that has spoken before says itself when nothing of it runs any more.
        tracked.asleep = spec.suspend and not tracked.seen.taken_up
        seen = await self._objects.hold(tracked.seen)
        if seen is None:
            return  # gone; its DELETED event tidies up
        tracked.seen = seen
        if not seen.held:
            return  # deleted meanwhile, and free to go
        if seen.terminal or seen.job.generation != generation:
            self._queue.add(seen.job.uid)
            return  # another wish by now, or what was seen was an old copy, of which Temporal may know nothing any more
        if seen.waits_for_temporal:
            await self._speaker.publish(tracked, answers.temporal_is_back(seen, self._now()))
        # Of use only where Temporal has lost what it knew: a workflow that it knows is found, not started.
        wish = TrainingInput(job=seen.job, spec=spec, recalled=recall(seen), kueue_queue=seen.kueue_queue)
        if await self._workflows.start(wish):
            self._note_started(tracked)
        else:
            await self._workflow_is_closed(tracked)

    async def _inform(self, decision: TellWishes | AskCheckpoint | Literal[Step.CANCEL], tracked: Tracked) -> None:
        """Tells a running workflow what somebody wants; what it makes of it, it publishes."""
        job, told = tracked.seen.job, tracked.informed
        match decision:
            case TellWishes(wishes):
                heard = await self._workflows.tell(job, wishes)
                told = replace(told, generation=wishes.generation, kueue_queue=wishes.kueue_queue)
                tracked.asleep = tracked.asleep and wishes.suspend
            case AskCheckpoint(request):
                heard = await self._workflows.ask_checkpoint(job, request)
                told = replace(told, checkpoint_request=request.id)
            case Step.CANCEL:
                heard = await self._workflows.cancel(job)
                told = replace(told, cancelled=True)
        if heard:
            tracked.informed = told
            log.info("workflow_informed", of=type(decision).__name__)
        else:
            # It has closed: starting it finds out how.
            tracked.started_at = None
        self._queue.add(tracked.seen.job.uid)

    def _note_started(self, tracked: Tracked) -> None:
        tracked.started_at = asyncio.get_running_loop().time()
        # What the one before was told, one that was begun anew has not heard.
        tracked.informed = Told()
        # There may be more to tell than it was started with.
        self._queue.add(tracked.seen.job.uid)
        tracked.closed_since = None
        log.info("workflow_started")
        if tracked.seen.created is not None and not tracked.seen.taken_up:
            self._metrics.start_lag_seconds.observe((self._now() - tracked.seen.created).total_seconds())

    # what went wrong with a workflow

    async def _workflow_is_closed(self, tracked: Tracked) -> None:
        """Its workflow has ended, but the object, as far as we know, does not say how."""
        now = asyncio.get_running_loop().time()
        if tracked.closed_since is None:
            tracked.closed_since = now
        patience = tracked.closed_since + self._patience.lost_seconds - now
        if patience > 0:
            self._queue.add_after(tracked.seen.job.uid, patience)
            return
        # What we have of the object may be old: never fail one on old news.
        seen = await self._objects.read(tracked.seen.job)
        if seen is None:
            return
        tracked.seen = seen
        if seen.terminal or seen.deleting:
            self._queue.add(seen.job.uid)
            return
        await self._publish_for_the_workflow(tracked)

    async def _publish_for_the_workflow(self, tracked: Tracked) -> None:
        seen = tracked.seen
        standing = await self._workflows.standing(seen.job)
        if standing.open or standing is Standing.MISSING:
            tracked.closed_since = None
            self._queue.add(seen.job.uid)
            return
        result = await self._last_word(seen, standing)
        if result is not None:
            log.warning("last_word_published_for_the_workflow")
            await self._speaker.publish(tracked, answers.last_word(seen, result, self._now()))
            return
        log.error("workflow_lost", standing=standing.value)
        await self._publish_failed(tracked, answers.lost(seen, standing, self._now()))

    async def _last_word(self, seen: Observation, standing: Standing) -> TrainingJobStatus | None:
        if standing is not Standing.COMPLETED:
            return None
        result = await self._workflows.last_word(seen.job)
        return result if result is not None and result.terminal else None

    # deletion

    async def _bury(self, tracked: Tracked) -> None:
        uid = tracked.seen.job.uid
        await self._deletions.bury(tracked)
        self._tracker.drop(uid)
        self._queue.forget(uid)
        self._waiting.discard(uid)

    # speaking

    async def _wait_for_temporal(self, tracked: Tracked) -> None:
        """Says once that the object waits; nothing else is to be done until Temporal is back."""
        if tracked.gone:
            return
        if not tracked.seen.deleting:
            if self._says_that_it_waits(tracked.seen):
                return
            # What a workflow has said meanwhile must not be overwritten with old news.
            seen = await self._objects.read(tracked.seen.job)
            if seen is None:
                return
            tracked.seen = seen
        if tracked.seen.deleting:
            await self._deletions.wait_for_temporal(tracked)
        elif not tracked.seen.terminal:
            status = answers.waiting_for_temporal(tracked.seen, self._address, self._now())
            await self._speaker.publish(tracked, status)
            await self._speaker.tell_once(tracked, answers.note_waiting(tracked.seen, self._address))

    def _says_that_it_waits(self, seen: Observation) -> bool:
        if not seen.waits_for_temporal:
            return False
        said = seen.condition(ConditionType.RECONCILING)
        status = answers.waiting_for_temporal(seen, self._address, self._now())
        return said is not None and said.message == status["conditions"][0]["message"]

    async def _publish_failed(self, tracked: Tracked, status: dict[str, Any]) -> None:
        if await self._speaker.publish(tracked, status) is Written.WRITTEN:
            await self._speaker.tell_once(tracked, answers.note_failed(status))
