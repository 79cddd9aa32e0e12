"""How an activity tells the workflow that something cannot go on."""

from __future__ import annotations

from temporalio.exceptions import ApplicationError

from perdure_api.conditions import Reason


def refusal(reason: Reason, message: str) -> ApplicationError:
    """An error that Temporal does not retry: the workflow decides, and its type is the reason."""
    return ApplicationError(message, type=str(reason), non_retryable=True)
