"""How workflows ask models: time limits, retries, and what a refusal becomes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final, TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from perdure_api import names
    from perdure_api.inference import Embedded, EmbedTexts, Generate, Generated, Problem
    from perdure_workers.messages import ActivityName, SurveyTexts, TextsSurveyed
    from perdure_workers.workflows.calls import FOR_EVER

Answer = TypeVar("Answer", Embedded, Generated)
HEARTBEAT: Final = timedelta(seconds=30)
"""A worker that was killed is found out after so long."""
LONGEST: Final = timedelta(hours=6)
"""Of one request, however slow the machine; it is divided into others long before."""


async def embed_texts(request: EmbedTexts) -> Embedded:
    """Vectors of texts, by a worker of the GPU pool; waits in the queue while there is none.

    Raises:
        ApplicationError: it is refused; its type is a Problem.
    """
    return await _asked(ActivityName.EMBED_TEXTS, request, Embedded)


async def generate(request: Generate) -> Generated:
    """Answers to prompts, by a worker of the GPU pool; waits in the queue while there is none.

    Raises:
        ApplicationError: it is refused; its type is a Problem.
    """
    return await _asked(ActivityName.GENERATE, request, Generated)


async def _asked(activity: ActivityName, request: EmbedTexts | Generate, answer: type[Answer]) -> Answer:
    with _refusals():
        found: Answer = await workflow.execute_activity(
            activity,
            request,
            result_type=answer,
            task_queue=names.TASK_QUEUE_GPU,
            start_to_close_timeout=LONGEST,
            heartbeat_timeout=HEARTBEAT,
            retry_policy=FOR_EVER,
        )
    return found


async def survey_texts(request: SurveyTexts) -> TextsSurveyed:
    """Where texts of the store are; looked at by the CPU pool.

    Raises:
        ApplicationError: it is refused; its type is a Problem.
    """
    with _refusals():
        found: TextsSurveyed = await workflow.execute_activity(
            ActivityName.SURVEY_TEXTS,
            request,
            result_type=TextsSurveyed,
            start_to_close_timeout=LONGEST,
            heartbeat_timeout=timedelta(seconds=60),
            retry_policy=FOR_EVER,
        )
    return found


@contextmanager
def _refusals() -> Iterator[None]:
    """What an activity refuses within is raised as it was said, without the activity's wrapping."""
    try:
        yield
    except ActivityError as error:
        told = error.cause
        if isinstance(told, ApplicationError) and told.type in set(Problem):
            raise ApplicationError(told.message, type=told.type, non_retryable=True) from error
        raise
