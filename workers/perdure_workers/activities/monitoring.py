"""Following one attempt to its end."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Final

import structlog
from prometheus_client import Counter
from temporalio import activity

from perdure_api import names
from perdure_api.conditions import Condition, ConditionStatus, ConditionType, Phase, Reason
from perdure_api.events import EventKind, EventNote
from perdure_api.pod import TerminationMessage
from perdure_api.status import ProgressStatus, TrainingJobStatus
from perdure_api.uri import parse_uri
from perdure_api.workflow import JobRef
from perdure_control.cluster import JOBS, Cluster, ClusterError, Document, NotFound
from perdure_control.statuses import EventSource, apply_status, read_status, record_event
from perdure_data.errors import StoreError
from perdure_data.stores import Stores
from perdure_workers.activities.clock import ServerClock
from perdure_workers.activities.hanging import HangWatch
from perdure_workers.activities.hindrance import Hindrances
from perdure_workers.activities.waiting import next_look
from perdure_workers.attempts.assess import Assessment, Ended, Running, Waiting, assess, waited_seconds
from perdure_workers.attempts.outcome import Outcome, of_hung
from perdure_workers.messages import ActivityName, AttemptEnd, Monitor, MonitorNote
from perdure_workers.progress.board import ProgressBoard, Told, newest_checkpoint, newest_of, with_last_words
from perdure_workers.progress.writer import ProgressWriter
from perdure_workers.story import rfc3339
from perdure_workers.watching.facts import AttemptKey
from perdure_workers.watching.index import AttemptIndex, Watcher

LOOK_SECONDS: Final = 20.0
"""Between two looks without news; each look is a heartbeat."""
SETTLE_SECONDS: Final = 1.0
"""How long something must last before it is written: a job that is done in a second needs no status between."""
STOPPING_SECONDS: Final = 45.0
"""The same for pods that are being ended: they save and go; longer is worth a word."""
UNSEEN_SECONDS: Final = 10.0
"""After this a Job that the informer does not show is asked for by name."""
_KEEP_SECONDS: Final = 20.0
NO_POD_SECONDS: Final = 4.0
"""After this a Job without a pod is asked why."""

log = structlog.get_logger(__name__)


class MonitorActivities:
    """Watches attempts. Any number share the process's informers: one costs an event and a few hundred bytes."""

    def __init__(
        self,
        cluster: Cluster,
        index: AttemptIndex,
        board: ProgressBoard,
        writer: ProgressWriter,
        source: EventSource,
        stores: Stores,
        ended: Counter,
    ) -> None:
        self._cluster = cluster
        self._index = index
        self._board = board
        self._writer = writer
        self._source = source
        self._stores = stores
        self._ended = ended

    @activity.defn(name=ActivityName.MONITOR_TRAINING)
    async def monitor_training(self, request: Monitor) -> AttemptEnd:
        """Returns when no pod of the attempt can run any more, or when none ever will.

        A worker that stops, or a monitor that is replaced, leaves training alone: the Job is touched only where the
        attempt hangs, and it is deleted then by its uid. One that goes on although Temporal has given it up (it is cut
        off) says and ends nothing any more once a newer attempt has begun.
        """
        key = AttemptKey(request.job.namespace, request.job.uid, request.attempt)
        info = activity.info()
        clock, details = ServerClock(info.started_time), info.heartbeat_details
        note = MonitorNote.model_validate(details[0]) if details else MonitorNote()
        with self._index.watching(key) as watcher:
            follower = _Follower(self._cluster, self._index, self._board, self._source, request, note, clock)
            outcome = await follower.follow(key, watcher)
        ended_at = clock.now()
        # Both before the flush: that forgets.
        shown = await self._shown(request)
        reached, begun = self._reached(key, outcome, shown), self._begun(key, outcome, shown)
        saved = newest_checkpoint(outcome.words, self._board.get(key), shown, key)
        self._take_last_words(key, request.job, outcome.words, shown)
        outcome = await self._kept(request, outcome)
        await self._writer.flush(key)
        self._ended.labels(reason=str(outcome.reason)).inc()
        log.info(
            "attempt_ended",
            attempt=request.attempt,
            reason=str(outcome.reason),
            exit_code=outcome.exit_code,
        )
        return AttemptEnd(
            outcome=outcome,
            from_step=begun,
            to_step=reached,
            checkpoint_step=saved,
            ended_at=ended_at,
        )

    async def _kept(self, request: Monitor, outcome: Outcome) -> Outcome:
        """The outcome without stacks, which would make histories large: of what hung they are kept in the store."""
        stacks = outcome.words.stacks
        if stacks is None:
            return outcome
        outcome = outcome.model_copy(update={"words": outcome.words.model_copy(update={"stacks": None})})
        if outcome.reason is not Reason.HUNG or request.stacks_uri is None:
            return outcome
        try:
            async with asyncio.timeout(_KEEP_SECONDS):
                await asyncio.to_thread(self._stores.put, parse_uri(request.stacks_uri), stacks.encode())
        except (StoreError, TimeoutError) as error:
            log.warning("stacks_not_kept", uri=request.stacks_uri, error=str(error))
            return outcome
        return outcome.model_copy(update={"message": f"{outcome.message}; every thread: {request.stacks_uri}"})

    async def _shown(self, request: Monitor) -> TrainingJobStatus | None:
        """The status, where it shows progress of this attempt."""
        try:
            status = await read_status(self._cluster, request.job)
        except ClusterError:
            return None
        started = rfc3339(datetime.fromtimestamp(request.started_at, UTC))
        progress = status.progress if status else None
        return status if progress and (progress.last_updated or "") >= started else None

    def _reached(self, key: AttemptKey, outcome: Outcome, shown: TrainingJobStatus | None) -> int | None:
        """The step that the attempt came to: by its last words, by this process's board, or by the status."""
        if outcome.words.step is not None:
            return outcome.words.step
        told = self._board.get(key)
        if told:
            return told.progress.step
        return shown.progress.step if shown and shown.progress and not outcome.completed else None

    def _begun(self, key: AttemptKey, outcome: Outcome, shown: TrainingJobStatus | None) -> int | None:
        """The step that the attempt went on from, by the same three: one that is killed leaves no words."""
        told = self._board.get(key)
        progress = told.progress if told else shown.progress if shown else None
        return progress.from_step if outcome.words.from_step is None and progress else outcome.words.from_step

    def _take_last_words(
        self, key: AttemptKey, job: JobRef, words: TerminationMessage, shown: TrainingJobStatus | None
    ) -> None:
        told, now = self._board.get(key), rfc3339(datetime.now(UTC))
        if shown and shown.progress:
            # Another worker may have heard the newest report, or all of them.
            told = newest_of(told, Told(job, shown.progress, shown.checkpoint), now)
        told = told or Told(job, ProgressStatus(), None)
        last = with_last_words(told, words, now)
        if last != told and not self._index.is_overtaken(key) and self._board.put(key, last):
            self._writer.told(key)


class _Follower:
    """One monitor's round: look, tell, wait for news."""

    def __init__(
        self,
        cluster: Cluster,
        index: AttemptIndex,
        board: ProgressBoard,
        source: EventSource,
        request: Monitor,
        note: MonitorNote,
        clock: ServerClock,
    ) -> None:
        self._cluster = cluster
        self._index = index
        self._board = board
        self._source = source
        self._request = request
        self._note = note
        self._clock = clock
        self._hang = HangWatch(cluster, index, board, request, note)
        self._hindrances = Hindrances(cluster)
        self._seen_since = time.monotonic()
        self._seen: Assessment | None = None
        self._waited = 0.0

    async def follow(self, key: AttemptKey, watcher: Watcher) -> Outcome:
        stop = asyncio.create_task(activity.wait_for_worker_shutdown())
        try:
            while True:
                news = watcher.next_news()
                assessment = await self._look(key)
                if isinstance(assessment, Ended):
                    return of_hung(assessment.outcome, self._hang.why) if self._hang.why else assessment.outcome
                if self._hang.cannot_be_ended:
                    return of_hung(None, self._hang.why)
                overtaken = self._index.is_overtaken(key)
                if isinstance(assessment, Running):
                    self._note = self._note.model_copy(update={"ran": True})
                    if not overtaken:
                        await self._hang.look(key)
                patience = LOOK_SECONDS if overtaken else await self._tell(assessment)
                self._heartbeat(key)
                await next_look(news, stop, patience)
        finally:
            stop.cancel()

    async def _look(self, key: AttemptKey) -> Assessment:
        view, refusal = self._index.view(key), None
        self._waited = waited = waited_seconds(view.job, self._request.started_at, self._clock.now())
        unseen = not (view.job or view.job_was_deleted or view.pods or view.lost_pods)
        if unseen and waited > UNSEEN_SECONDS and await self._job_is_gone():
            return Ended(Outcome(reason=Reason.JOB_DELETED, message="its Job is gone"))
        lacks_pods = len(view.pods) < self._request.nodes and not (view.lost_pods or self._note.ran)
        if lacks_pods and waited > NO_POD_SECONDS:
            refusal = await self._hindrances.why_no_pod(view)
        return assess(
            await self._hindrances.seen_in(view, waited),
            waited_seconds=waited,
            start_seconds=self._request.start_seconds,
            refusal=refusal,
            permanent_exit_codes=self._request.permanent_exit_codes,
            nodes=self._request.nodes,
            fenced_at=self._clock.now() if self._request.fenced else None,
            ran=self._note.ran,
        )

    async def _tell(self, assessment: Waiting | Running) -> float:
        """Writes what has lasted long enough.

        Returns:
            Seconds until the next look, should there be no news.
        """
        if assessment != self._seen:
            self._seen, self._seen_since = assessment, time.monotonic()
        left = self._request.start_seconds - self._waited
        patience = LOOK_SECONDS if isinstance(assessment, Running) else min(LOOK_SECONDS, max(0.1, left))
        if self._request.progress_seconds:
            patience = min(patience, max(1.0, self._request.progress_seconds / 4))
        text = repr(assessment)
        quiet = isinstance(assessment, Waiting) and assessment.reason is Reason.STARTING
        if quiet and not self._hindrances.is_known:
            return min(patience, NO_POD_SECONDS)
        if text == self._note.published:
            return patience
        settle = STOPPING_SECONDS if _is_stopping(assessment) else SETTLE_SECONDS
        lasted = time.monotonic() - self._seen_since
        if lasted < settle:
            return min(patience, settle - lasted)
        try:
            await self._write(assessment)
        except ClusterError as error:
            log.warning("status_not_written", error=error.message)
            return SETTLE_SECONDS
        self._note = self._note.model_copy(update={"published": text})
        return patience

    async def _write(self, assessment: Waiting | Running) -> None:
        job, attempt = self._request.job, self._request.attempt
        match assessment:
            case Running(pod, node, silent=True):
                status, phase, reason = ConditionStatus.UNKNOWN, Phase.RUNNING, Reason.DISRUPTED
                message = f"attempt {attempt}: node {node} does not answer; pod {pod} may still run there"
                await self._tell_of(EventKind.WARNING, reason, message)
            case Running(pod, node):
                status, phase, reason = ConditionStatus.TRUE, Phase.RUNNING, Reason.POD_RUNNING
                message = f"attempt {attempt}: pod {pod} runs on node {node}"
            case Waiting(reason, message):
                queued = reason is Reason.QUEUED
                status, phase = ConditionStatus.FALSE, Phase.QUEUED if queued else Phase.STARTING
                await self._tell_of(EventKind.NORMAL if queued else EventKind.WARNING, reason, message)
        condition = Condition(
            type=ConditionType.RUNNING,
            status=status,
            reason=str(reason),
            message=message[:1024],
            last_transition_time=rfc3339(datetime.now(UTC)),
            observed_generation=job.generation,
        )
        document: Document = {
            "phase": str(phase),
            "reason": str(reason),
            "message": message[:1024],
            "conditions": [condition.to_wire()],
        }

        def beside(shown: Document) -> Document | None:
            overtaken = int(shown.get("attemptCounters", {}).get("started", 0)) > attempt
            return None if overtaken else document

        await apply_status(self._cluster, job, beside, manager=names.FIELD_MANAGER_MONITOR)

    async def _tell_of(self, kind: EventKind, reason: Reason, message: str) -> None:
        note = EventNote(kind=kind, reason=reason, message=message)
        await record_event(self._cluster, self._request.job, note, self._source)

    def _heartbeat(self, key: AttemptKey) -> None:
        told = self._board.get(key)
        if told:
            checkpoint = told.checkpoint.step if told.checkpoint else None
            self._note = self._note.model_copy(update={"step": told.progress.step, "checkpoint_step": checkpoint})
        activity.heartbeat(self._note.model_copy(update={"hung": self._hang.why}))

    async def _job_is_gone(self) -> bool:
        try:
            await self._cluster.get(JOBS.path(self._request.job.namespace, self._request.job_name))
        except NotFound:
            return True
        except ClusterError:
            return False
        return False


def _is_stopping(assessment: Waiting | Running) -> bool:
    return isinstance(assessment, Waiting) and assessment.reason is Reason.STOPPING
