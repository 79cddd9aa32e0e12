"""The status of a training job as its workflow tells it: one document that only ever moves forward.

Pure: the clock is passed in, and nothing is written here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from perdure_api.conditions import Condition, ConditionStatus, ConditionType, Phase, Reason, phase_of
from perdure_api.names import job_name
from perdure_api.status import (
    ATTEMPTS_SHOWN,
    AttemptCounters,
    AttemptStatus,
    ResultStatus,
    TrainingJobStatus,
    WorkflowStatus,
    shown_metrics,
)
from perdure_api.workflow import JobRef
from perdure_workers.attempts import retry
from perdure_workers.attempts.outcome import Outcome
from perdure_workers.attempts.recall import Recollection, attempt_of
from perdure_workers.messages import AttemptEnd, Collected, FoundAttempt, Input

_MESSAGE_LIMIT = 1024


def rfc3339(moment: datetime) -> str:
    """The moment as Kubernetes writes it: UTC, whole seconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class Story:
    """Tells a status. Every method is one thing that happened."""

    def __init__(self, job: JobRef, status: TrainingJobStatus) -> None:
        self._job = job
        self._status = status

    @classmethod
    def begin(cls, job: JobRef, run_id: str, now: datetime) -> Story:
        """The first chapter: the wish is accepted."""
        story = cls(
            job,
            TrainingJobStatus(
                observed_generation=job.generation,
                start_time=rfc3339(now),
                attempt_counters=AttemptCounters(),
                workflow=WorkflowStatus(id=job.workflow_id, run_id=run_id),
            ),
        )
        story._condition(ConditionType.ACCEPTED, ConditionStatus.TRUE, Reason.ACCEPTED, "", now)
        story._condition(ConditionType.SUCCEEDED, ConditionStatus.UNKNOWN, Reason.PENDING, "not finished", now)
        story._reconciling(Reason.STARTING, "", now)
        return story

    @classmethod
    def recall(cls, job: JobRef, status: TrainingJobStatus, run_id: str) -> Story:
        """What the object told before, to be told on by another workflow."""
        workflow = WorkflowStatus(id=job.workflow_id, run_id=run_id)
        return cls(job, status.model_copy(update={"observed_generation": job.generation, "workflow": workflow}))

    @property
    def status(self) -> TrainingJobStatus:
        """The document so far."""
        return self._status

    def status_as_of(self, now: datetime) -> TrainingJobStatus:
        """The document so far, with the moment that tells which of two is newer; the document has it from now on."""
        if self._status.workflow:
            as_of = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            workflow = self._status.workflow.model_copy(update={"as_of": as_of})
            self._status = self._status.model_copy(update={"workflow": workflow})
        return self._status

    @property
    def counters(self) -> AttemptCounters:
        """Counts over all attempts."""
        return self._status.attempt_counters or AttemptCounters()

    def checking(self, now: datetime, problem: str | None = None) -> None:
        """Model and dataset are being looked at; a problem is one that waiting may solve."""
        reason = Reason.STORE_UNAVAILABLE if problem else Reason.CHECKING
        message = problem or "reading the dataset"
        self._condition(ConditionType.DATASET_READY, ConditionStatus.UNKNOWN, reason, message, now)
        self._now_doing(reason, message, now)

    def collecting(self, problem: str, now: datetime) -> None:
        """Training is done, and the store with its result is away."""
        message = f"training is done; its result is waited for: {problem}"
        self._condition(ConditionType.RUNNING, ConditionStatus.FALSE, Reason.FINISHED, "", now)
        self._now_doing(Reason.STORE_UNAVAILABLE, message, now)

    def checked(self, reason: Reason, message: str, now: datetime) -> None:
        """Model and dataset can be trained with, or there was nothing to look at."""
        self._condition(ConditionType.DATASET_READY, ConditionStatus.TRUE, reason, message, now)

    def recalled(self, recollection: Recollection, found: Sequence[FoundAttempt], now: datetime) -> None:
        """It is known where the job was when Temporal lost its history."""
        for number in recollection.lost:
            self._attempt_known(number, found, now)
            message = "Temporal lost its history before anybody was told how this attempt ended"
            self.attempt_ended(AttemptEnd(outcome=Outcome(reason=Reason.DISRUPTED, message=message)), now)
        if recollection.under_way is not None:
            self._attempt_known(recollection.under_way, found, now)
        where = _where(recollection)
        self._now_doing(Reason.RECALLED, f"Temporal has lost the history of this job; it goes on {where}", now)

    def attempt_started(self, now: datetime, nodes: int = 1, alternative: int | None = None, where: str = "") -> int:
        """A new attempt begins.

        Args:
            now: The time.
            nodes: How many it asks for.
            alternative: Which of resources.alternatives it asks for, from 0; None: the first resources.
            where: What to say of that; empty: nothing.

        Returns:
            Its number.
        """
        number = self.counters.started + 1
        self._attempt(number, now, nodes, alternative)
        message = f"attempt {number} is starting{where and f' {where}'}"
        self._condition(ConditionType.RUNNING, ConditionStatus.FALSE, Reason.STARTING, message, now)
        self._now_doing(Reason.STARTING, message, now)
        return number

    def start_refused(self, message: str, now: datetime) -> None:
        """The API server does not take the Job at present."""
        self._condition(ConditionType.RUNNING, ConditionStatus.FALSE, Reason.JOB_REFUSED, message, now)
        self._now_doing(Reason.JOB_REFUSED, message, now)

    def attempt_ended(self, end: AttemptEnd, now: datetime) -> None:
        """The newest attempt is over."""
        outcome = end.outcome
        ended_at = now if end.ended_at is None else datetime.fromtimestamp(end.ended_at, UTC)
        newest = self._status.attempts[-1].model_copy(
            update={
                "end_time": rfc3339(ended_at),
                "reason": str(outcome.reason),
                "message": outcome.message[:_MESSAGE_LIMIT],
                "exit_code": outcome.exit_code,
                "signal": outcome.signal,
                "node": outcome.node,
                "from_step": end.from_step,
                "to_step": end.to_step,
                "checkpoint_step": end.checkpoint_step,
            }
        )
        self._update(
            attempts=[*self._status.attempts[:-1], newest], attempt_counters=retry.count(self.counters, outcome)
        )

    def heard(self, generation: int) -> None:
        """The spec of a newer generation is known."""
        self._job = self._job.model_copy(update={"generation": generation})
        self._update(observed_generation=generation)

    def left_to_kueue(self, queue: str) -> None:
        """The Jobs of attempts to come wait in this queue of Kueue; empty: in none."""
        self._update(kueue_queue=queue or None)

    def suspending(self, now: datetime) -> None:
        """The newest attempt is told to end."""
        self._now_doing(Reason.SUSPENDED, "spec.suspend is true: its pods save and end", now)

    def regrowing(self, now: datetime) -> None:
        """The newest attempt is told to end, since all nodes are to be had."""
        self._now_doing(Reason.REGROWN, "there is room for all nodes: its pods save and end, and it goes on there", now)

    def suspended(self, now: datetime) -> None:
        """Nothing of the job runs, nor will, until it is resumed."""
        newest = self._status.attempts[-1] if self._status.attempts else None
        ended_by_it = newest is not None and newest.reason == Reason.SUSPENDED and newest.message
        then = "and it goes on" if newest else "and it begins"
        message = f"{ended_by_it or 'suspended'}; set spec.suspend to false {then}"
        self._condition(ConditionType.SUSPENDED, ConditionStatus.TRUE, Reason.SUSPENDED, message, now)
        if self._status.condition(ConditionType.RUNNING):
            self._condition(ConditionType.RUNNING, ConditionStatus.FALSE, Reason.SUSPENDED, "", now)
        # Nothing is being done, and nothing is wrong: a rollout that waits for this object is done with it.
        self._condition(ConditionType.RECONCILING, ConditionStatus.FALSE, Reason.SUSPENDED, "", now)
        self._headline(Reason.SUSPENDED, message)

    def resumed(self, now: datetime, suspended_seconds: float = 0.0) -> None:
        """It may go on, after it was suspended for so long in all."""
        self.not_suspended(now, suspended_seconds)
        self._now_doing(Reason.RESUMED, "resumed", now)

    def retrying(self, after_seconds: float, now: datetime) -> None:
        """The next attempt comes after a pause."""
        last = self._status.attempts[-1]
        message = f"attempt {last.number}: {last.message}; the next one starts in {after_seconds:.0f} s"
        self._condition(ConditionType.RUNNING, ConditionStatus.FALSE, Reason.RETRYING, message, now)
        self._now_doing(Reason.RETRYING, message, now)

    def falling_back(self, where: str, now: datetime) -> None:
        """The newest attempt found no place; the next one is tried elsewhere."""
        last = self._status.attempts[-1]
        message = f"attempt {last.number}: {last.message}; {where}"
        self._condition(ConditionType.RUNNING, ConditionStatus.FALSE, Reason.RETRYING, message, now)
        self._now_doing(Reason.RETRYING, message, now)

    def succeeded(self, collected: Collected, now: datetime) -> None:
        """The end that everybody wants."""
        document = collected.document
        if document:
            self._update(
                result=ResultStatus(
                    adapter_uri=document.adapter_uri,
                    result_uri=collected.uri,
                    metrics=shown_metrics(document.metrics),
                    base_metrics=shown_metrics(document.base_metrics),
                )
            )
        self._finish(ConditionStatus.TRUE, Reason.COMPLETED, success_sentence(collected), now)

    def failed(self, reason: Reason, message: str, now: datetime) -> None:
        """The other end, with one sentence that says why."""
        self._finish(ConditionStatus.FALSE, reason, message, now)

    def input_refused(self, reason: Reason, message: str, now: datetime, about: Input = Input.DATASET) -> None:
        """Model, dataset or output cannot be trained with; the dataset is looked at last."""
        if about is Input.DATASET:
            self._condition(ConditionType.DATASET_READY, ConditionStatus.FALSE, reason, message, now)
        else:
            because = f"not looked at: the {about} was refused"
            self._condition(ConditionType.DATASET_READY, ConditionStatus.UNKNOWN, Reason.NOT_CHECKED, because, now)
        self.failed(reason, message, now)

    def _attempt(self, number: int, start: datetime, nodes: int, alternative: int | None) -> None:
        attempt = AttemptStatus(
            number=number,
            job=job_name(self._job.name, number),
            start_time=rfc3339(start),
            nodes=nodes if nodes > 1 else None,
            alternative=alternative,
        )
        self._update(
            attempts=[*self._status.attempts, attempt][-ATTEMPTS_SHOWN:],
            attempt_counters=self.counters.model_copy(update={"started": number}),
        )

    def _attempt_known(self, number: int, found: Sequence[FoundAttempt], now: datetime) -> None:
        """An attempt that has begun is in the list; of one that was never told of, as much as the cluster shows."""
        if attempt_of(self._status, number) is not None:
            return
        seen = next((each for each in found if each.number == number), FoundAttempt(number=number))
        before = self._status.attempts[-1] if self._status.attempts else None
        start = datetime.fromtimestamp(seen.created_at, UTC) if seen.created_at is not None else now
        self._attempt(number, start, seen.nodes, before.alternative if before else None)

    def not_suspended(self, now: datetime, suspended_seconds: float | None = None) -> None:
        """It is not suspended any more, if ever it was told to be; and for how long it was, in all."""
        if self._status.condition(ConditionType.SUSPENDED):
            if suspended_seconds is not None:
                self._update(suspended_seconds=int(suspended_seconds) or None)
            self._condition(ConditionType.SUSPENDED, ConditionStatus.FALSE, Reason.RESUMED, "", now)

    def _end_attempt(self, reason: Reason, message: str, now: datetime) -> None:
        """An attempt that was under way when the job was ended ended with it."""
        attempts = self._status.attempts
        if attempts and attempts[-1].end_time is None:
            update = {"end_time": rfc3339(now), "reason": str(reason), "message": message[:_MESSAGE_LIMIT]}
            self._update(attempts=[*attempts[:-1], attempts[-1].model_copy(update=update)])

    def _finish(self, succeeded: ConditionStatus, reason: Reason, message: str, now: datetime) -> None:
        self.not_suspended(now)
        self._end_attempt(reason, message, now)
        if self._status.condition(ConditionType.RUNNING):
            self._condition(ConditionType.RUNNING, ConditionStatus.FALSE, Reason.FINISHED, "", now)
        self._condition(ConditionType.SUCCEEDED, succeeded, reason, message, now)
        # Said, not left out: the operator may own a part of this condition too, and under server-side apply a part that
        # stays behind is no condition, and makes the whole write invalid.
        self._condition(ConditionType.RECONCILING, ConditionStatus.FALSE, Reason.FINISHED, "", now)
        self._update(completion_time=rfc3339(now))
        if succeeded is ConditionStatus.FALSE:
            self._condition(ConditionType.STALLED, ConditionStatus.TRUE, reason, message, now)
        self._headline(reason, message)

    def _now_doing(self, reason: Reason, message: str, now: datetime) -> None:
        self._reconciling(reason, message, now)
        self._headline(reason, message)

    def _reconciling(self, reason: Reason, message: str, now: datetime) -> None:
        self._condition(ConditionType.RECONCILING, ConditionStatus.TRUE, reason, message, now)

    def _headline(self, reason: Reason, message: str) -> None:
        phase: Phase = phase_of(self._status.conditions)
        self._update(phase=str(phase), reason=str(reason), message=message[:_MESSAGE_LIMIT])

    def _condition(
        self, type_: ConditionType, status: ConditionStatus, reason: Reason, message: str, now: datetime
    ) -> None:
        before = self._status.condition(type_)
        since = before.last_transition_time if before and before.status is status else rfc3339(now)
        condition = Condition(
            type=type_,
            status=status,
            reason=str(reason),
            message=message[:_MESSAGE_LIMIT],
            last_transition_time=since,
            observed_generation=self._job.generation,
        )
        others = [c for c in self._status.conditions if c.type is not type_]
        self._update(conditions=sorted([*others, condition], key=lambda c: list(ConditionType).index(c.type)))

    def _update(self, **fields: object) -> None:
        self._status = self._status.model_copy(update=fields)


def _where(recollection: Recollection) -> str:
    if recollection.completed is not None:
        return f"with the result of attempt {recollection.completed}"
    if recollection.under_way is not None:
        return f"with attempt {recollection.under_way}"
    return "with the next attempt"


def success_sentence(collected: Collected) -> str:
    """What a person wants to read first of a job that succeeded."""
    document = collected.document
    if document is None:
        return "training completed"
    after, before = document.metrics.get("eval_loss"), document.base_metrics.get("eval_loss")
    loss = f"; held-out loss {before:.4g} → {after:.4g}" if after is not None and before is not None else ""
    return f"adapter {document.adapter_uri}{loss}" if document.adapter_uri else f"training completed{loss}"
