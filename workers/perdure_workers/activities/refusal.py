"""How an activity tells the workflow that something cannot go on."""

from __future__ import annotations

from temporalio.exceptions import ApplicationError

from perdure_api.conditions import Reason
from perdure_workers.messages import Input


def refusal(reason: Reason, message: str, about: Input | None = None) -> ApplicationError:
    """An error that Temporal does not retry: the workflow decides. Its type is the reason, its detail the input."""
    return ApplicationError(message, *([str(about)] if about else []), type=str(reason), non_retryable=True)
