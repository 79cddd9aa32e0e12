"""Why a workflow did not complete, in a sentence."""

from __future__ import annotations

from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    CancelledError,
    ChildWorkflowError,
    FailureError,
    TimeoutError,  # noqa: A004 - Temporal's name
)


def innermost(error: BaseException | None) -> BaseException | None:
    """What went wrong, without the activities and workflows that it came through."""
    while isinstance(error, ActivityError | ChildWorkflowError) and error.cause:
        error = error.cause
    return error


def sentence(error: BaseException | None) -> str:
    """What went wrong, for people."""
    match innermost(error):
        case CancelledError():
            return "it was cancelled"
        case FailureError() as failure:
            return failure.message
        case other:
            return str(other)


def kind(error: BaseException | None) -> str:
    """By which code tells errors apart."""
    match innermost(error):
        case ApplicationError() as told:
            return told.type or ""
        case TimeoutError():
            return "Timeout"
        case other:
            return type(other).__name__ if other else ""
