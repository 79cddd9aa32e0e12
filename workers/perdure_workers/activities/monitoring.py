"""Following one attempt to its end."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from prometheus_client import Counter
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from perdure_api import names
from perdure_api.conditions import Condition, ConditionStatus, ConditionType, Phase, Reason
from perdure_api.events import EventKind, EventNote
from perdure_api.pod import GRACE_SECONDS, TerminationMessage
from perdure_api.status import ProgressStatus, TrainingJobStatus
from perdure_api.uri import parse_uri
from perdure_api.workflow import JobRef
from perdure_control.cluster import EVENTS, JOBS, Cluster, ClusterError, Document, NotFound
from perdure_control.statuses import EventSource, apply_status, read_status, record_event
from perdure_data.errors import StoreError
from perdure_data.stores import Stores
from perdure_workers.attempts.assess import Assessment, Ended, Running, Waiting, assess
from perdure_workers.attempts.outcome import Outcome, of_hung
from perdure_workers.messages import ActivityName, AttemptEnd, Monitor, MonitorNote
from perdure_workers.progress.board import ProgressBoard, Told, newest_checkpoint, newest_of, with_last_words
from perdure_workers.progress.writer import ProgressWriter
from perdure_workers.story import rfc3339
from perdure_workers.watching.facts import AttemptKey
from perdure_workers.watching.index import AttemptIndex, AttemptView, Watcher

LOOK_SECONDS: Final = 20.0
"""Between two looks without news; each look is a heartbeat."""
SETTLE_SECONDS: Final = 1.0
"""How long something must last before it is written: a job that is done in a second needs no status between."""
STOPPING_SECONDS: Final = 45.0
"""The same for pods that are being ended: they save and go; longer is worth a word."""
UNSEEN_SECONDS: Final = 10.0
"""After this a Job that the informer does not show is asked for by name."""
HUNG_SECONDS: Final = GRACE_SECONDS + 25.0
"""After this an attempt that hung, and whose Job is deleted, is on a node that does not answer."""
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
        attempt hangs, and it is deleted then by its uid.
        """
        key = AttemptKey(request.job.uid, request.attempt)
        details = activity.info().heartbeat_details
        note = MonitorNote.model_validate(details[0]) if details else MonitorNote()
        with self._index.watching(key) as watcher:
            follower = _Follower(self._cluster, self._index, self._board, self._source, request, note)
            outcome = await follower.follow(key, watcher)
        # Both before the flush: that forgets.
        shown = await self._shown(request)
        reached = self._reached(key, outcome, shown)
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
        return AttemptEnd(outcome=outcome, from_step=outcome.words.from_step, to_step=reached, checkpoint_step=saved)

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

    def _take_last_words(
        self, key: AttemptKey, job: JobRef, words: TerminationMessage, shown: TrainingJobStatus | None
    ) -> None:
        told = self._board.get(key)
        if shown and shown.progress:
            # Another worker may have heard the newest report, or all of them.
            told = newest_of(told, Told(job, shown.progress, shown.checkpoint))
        told = told or Told(job, ProgressStatus(), None)
        last = with_last_words(told, words, rfc3339(datetime.now(UTC)))
        if last != told and self._board.put(key, last):
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
    ) -> None:
        self._cluster = cluster
        self._index = index
        self._board = board
        self._source = source
        self._request = request
        self._note = note
        self._refusal: str | None = None
        self._seen_since = time.monotonic()
        self._seen: Assessment | None = None

    async def follow(self, key: AttemptKey, watcher: Watcher) -> Outcome:
        stop = asyncio.create_task(activity.wait_for_worker_shutdown())
        try:
            while True:
                news = watcher.next_news()
                assessment = await self._look(key)
                if isinstance(assessment, Ended):
                    return of_hung(assessment.outcome, self._note.hung) if self._note.hung else assessment.outcome
                if self._note.hung_since and time.time() - self._note.hung_since > HUNG_SECONDS:
                    return of_hung(None, self._note.hung)
                if isinstance(assessment, Running) and (why := await self._hangs(key)):
                    await self._end_hung(key, why)
                patience = await self._tell(assessment)
                self._heartbeat(key)
                await _wait_for(news, stop, patience)
                if stop.done():
                    # Another worker takes over at once instead of after a missed heartbeat.
                    raise ApplicationError(
                        "this worker is stopping; the next one goes on",
                        next_retry_delay=timedelta(milliseconds=100),
                        category=ApplicationErrorCategory.BENIGN,
                    )
        finally:
            stop.cancel()

    async def _look(self, key: AttemptKey) -> Assessment:
        view = self._index.view(key)
        waited = time.time() - self._request.started_at
        if not view.pods and not view.lost_pods:
            if view.job is None and not view.job_was_deleted and waited > UNSEEN_SECONDS and await self._job_is_gone():
                return Ended(Outcome(reason=Reason.JOB_DELETED, message="its Job is gone"))
            if view.job and waited > NO_POD_SECONDS:
                self._refusal = await self._why_no_pod(view)
        return assess(
            view,
            waited_seconds=waited,
            start_seconds=self._request.start_seconds,
            refusal=self._refusal,
            permanent_exit_codes=self._request.permanent_exit_codes,
            nodes=self._request.nodes,
        )

    async def _hangs(self, key: AttemptKey) -> str | None:
        """What shows that an attempt whose pods run makes no progress; None when nothing does."""
        limit = self._request.progress_seconds
        if limit is None or self._note.hung:
            return None
        if self._note.running_since is None:
            self._note = self._note.model_copy(update={"running_since": time.time()})
        told = self._board.get(key)
        if time.time() - self._moved_at(told.progress if told else None) < limit:
            return None
        try:
            # Another worker may have heard of it.
            shown = await read_status(self._cluster, self._request.job)
        except ClusterError:
            return None
        progress = shown.progress if shown else None
        if time.time() - max(self._moved_at(progress), self._moved_at(told.progress if told else None)) < limit:
            return None
        reached = f" since step {progress.step}" if progress and progress.step else ""
        return f"no progress for {limit:.0f} s{reached}, so it was ended"

    def _moved_at(self, progress: ProgressStatus | None) -> float:
        """When there was progress last, in Unix seconds: when it began to run, if none was told since."""
        began = self._note.running_since or time.time()
        if progress is None or progress.last_updated is None:
            return began
        return max(began, datetime.fromisoformat(progress.last_updated).timestamp())

    async def _end_hung(self, key: AttemptKey, why: str) -> None:
        """Deletes the Job: its pods get SIGTERM, and say where they are."""
        job = self._index.view(key).job
        if job is None:
            return
        try:
            await self._cluster.delete(JOBS.path(job.namespace, job.name), uid=job.uid)
        except NotFound:
            log.info("job_of_hung_attempt_was_gone")
        except ClusterError as error:
            log.warning("hung_attempt_not_ended", error=error.message)
            return
        self._note = self._note.model_copy(update={"hung": why, "hung_since": time.time()})
        log.warning("attempt_hangs", attempt=self._request.attempt, why=why)

    async def _tell(self, assessment: Waiting | Running) -> float:
        """Writes what has lasted long enough.

        Returns:
            Seconds until the next look, should there be no news.
        """
        if assessment != self._seen:
            self._seen, self._seen_since = assessment, time.monotonic()
        left = self._request.started_at + self._request.start_seconds - time.time()
        patience = LOOK_SECONDS if isinstance(assessment, Running) else min(LOOK_SECONDS, max(0.1, left))
        if self._request.progress_seconds:
            patience = min(patience, max(1.0, self._request.progress_seconds / 4))
        text = repr(assessment)
        quiet = isinstance(assessment, Waiting) and assessment.reason is Reason.STARTING
        if quiet:
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
            case Running(pod, node):
                status, phase, reason = ConditionStatus.TRUE, Phase.RUNNING, Reason.POD_RUNNING
                message = f"attempt {attempt}: pod {pod} runs on node {node}"
            case Waiting(reason, message):
                status, phase = ConditionStatus.FALSE, Phase.STARTING
                note = EventNote(kind=EventKind.WARNING, reason=reason, message=message)
                await record_event(self._cluster, job, note, self._source)
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
        await apply_status(self._cluster, job, document, manager=names.FIELD_MANAGER_MONITOR)

    def _heartbeat(self, key: AttemptKey) -> None:
        told = self._board.get(key)
        if told:
            checkpoint = told.checkpoint.step if told.checkpoint else None
            self._note = self._note.model_copy(update={"step": told.progress.step, "checkpoint_step": checkpoint})
        activity.heartbeat(self._note)

    async def _job_is_gone(self) -> bool:
        try:
            await self._cluster.get(JOBS.path(self._request.job.namespace, self._request.job_name))
        except NotFound:
            return True
        except ClusterError:
            return False
        return False

    async def _why_no_pod(self, view: AttemptView) -> str | None:
        """What the Job controller says of pods that it may not create; it says so in Events only."""
        if view.job is None:
            return None
        selector = f"involvedObject.uid={view.job.uid},reason=FailedCreate"
        try:
            events = await self._cluster.get(EVENTS.path(view.job.namespace), fieldSelector=selector)
        except ClusterError:
            return self._refusal
        items: list[Document] = events.get("items") or []
        newest = max(items, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "", default=None)
        return f"the pod is refused: {newest['message']}" if newest else None


def _is_stopping(assessment: Waiting | Running) -> bool:
    return isinstance(assessment, Waiting) and assessment.reason is Reason.STOPPING


async def _wait_for(news: asyncio.Event, stop: asyncio.Task[None], seconds: float) -> None:
    """Waits for news, for the worker's end, or for the time to pass."""
    hearing = asyncio.create_task(news.wait())
    try:
        await asyncio.wait([hearing, stop], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        hearing.cancel()
