"""TrainingJobs at every turn of their life, with the statuses that operator and workers write, by their own code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from perdure_api.conditions import Reason
from perdure_api.status import UNSEEN
from perdure_api.workflow import JobRef
from perdure_operator import answers
from perdure_operator.admission import Place
from perdure_operator.observation import Observation, observe
from perdure_operator.workflows import Standing
from perdure_workers.attempts.outcome import Outcome
from perdure_workers.messages import AttemptEnd, Collected
from perdure_workers.story import Story

Document = dict[str, Any]

NOW: Final = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
GENERATION: Final = 2
JOB: Final = JobRef(namespace="ml", name="bible", uid="u", generation=GENERATION)
PLACE: Final = Place(3, "at most 4 run at a time (limits.maxConcurrentJobs)")
FAILED: Final = Outcome(reason=Reason.FAILED, message="exit code 1", exit_code=1)


@dataclass(frozen=True)
class Turn:
    """A TrainingJob at one turn of its life, and what it is to those who wait for it."""

    document: Document
    argo_cd: str
    flux: str
    """Which expression is true first; of a status that there is not, none may be asked."""


def job(status: Mapping[str, Any] | None, generation: int = GENERATION) -> Document:
    """A TrainingJob with a status, of which it may have none."""
    metadata = {"name": "bible", "namespace": "ml", "uid": "u", "generation": generation}
    document = {"apiVersion": "perdure.dev/v1alpha1", "kind": "TrainingJob", "metadata": metadata, "spec": {}}
    return document if status is None else {**document, "status": dict(status)}


def told(*chapters: Callable[[Story], object]) -> Document:
    """What a workflow writes after these things have happened."""
    story = Story.begin(JOB, "run", NOW)
    for chapter in chapters:
        chapter(story)
    return story.status.to_wire()


def beside(status: Document, answer: Document) -> Document:
    """A status with what the operator writes into it: conditions by their type, the rest by its name."""
    conditions = {each["type"]: each for each in [*status["conditions"], *answer["conditions"]]}
    return {**status, **answer, "conditions": list(conditions.values())}


def seen(status: Document) -> Observation:
    """The job as the operator sees it."""
    document = job(status)
    document["metadata"]["creationTimestamp"] = "2026-11-22T11:00:00Z"
    return observe(document)


def _started(story: Story) -> None:
    story.attempt_started(NOW)


def _failed(story: Story) -> None:
    story.attempt_ended(AttemptEnd(outcome=FAILED, from_step=0, to_step=9), NOW)


STARTING: Final = told(_started)
SUSPENDED: Final = told(_started, lambda story: story.suspending(NOW), lambda story: story.suspended(NOW))
SUCCEEDED: Final = told(_started, lambda story: story.succeeded(Collected(), NOW))

PROGRESSING: Final = "Progressing", "inProgress"
TURNS: Final[Mapping[str, Turn]] = {
    "not seen by anybody": Turn(job(UNSEEN), *PROGRESSING),
    "Temporal is away": Turn(job(beside(UNSEEN, answers.waiting_for_temporal(seen(UNSEEN), "t:1", NOW))), *PROGRESSING),
    "in line": Turn(job(beside(UNSEEN, answers.queued(seen(UNSEEN), PLACE, NOW))), *PROGRESSING),
    "begun": Turn(job(told()), *PROGRESSING),
    "checking": Turn(job(told(lambda story: story.checking(NOW))), *PROGRESSING),
    "starting": Turn(job(STARTING), *PROGRESSING),
    "retrying": Turn(job(told(_started, _failed, lambda story: story.retrying(10, NOW))), *PROGRESSING),
    "suspending": Turn(job(told(_started, lambda story: story.suspending(NOW))), *PROGRESSING),
    "suspended": Turn(job(SUSPENDED), "Suspended", "inProgress"),
    "resumed, and in line": Turn(job(beside(SUSPENDED, answers.queued(seen(SUSPENDED), PLACE, NOW))), *PROGRESSING),
    "a change that nobody has heard": Turn(job(SUSPENDED, GENERATION + 1), *PROGRESSING),
    "its workflow's code fails": Turn(
        job(beside(STARTING, answers.failing(seen(STARTING), "KeyError", NOW))), *PROGRESSING
    ),
    "succeeded": Turn(job(SUCCEEDED), "Healthy", "current"),
    "succeeded, and changed since": Turn(job(SUCCEEDED, GENERATION + 1), "Healthy", "current"),
    "failed": Turn(
        job(told(_started, _failed, lambda story: story.failed(Reason.MAX_ATTEMPTS_REACHED, "exit code 1", NOW))),
        "Degraded",
        "failed",
    ),
    "a spec that is none": Turn(job(answers.rejected(seen(UNSEEN), "spec.lora: found 0", NOW)), "Degraded", "failed"),
    "cancelled in line": Turn(job(answers.withdrawn(seen(UNSEEN), NOW)), "Degraded", "failed"),
    "its workflow is lost": Turn(
        job(beside(STARTING, answers.lost(seen(STARTING), Standing.TERMINATED, NOW))), "Degraded", "failed"
    ),
}
