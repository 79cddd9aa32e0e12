"""An entry of the list of dead letters, as workers write it and people's commands read it.

Each is a workflow that stays open until its work was done after all, or somebody drops it: what is open Temporal keeps,
while it forgets workflows that have ended. Its argument is the input of the work, as it came; its memo says the rest.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from perdure_api.model import TolerantModel

MEMO_LETTER: Final = "perdure-dead-letter"
"""Memo: a DeadLetter."""
MEMO_RETRIED: Final = "perdure-retried"
"""Memo: a Retried, while the work is being tried again."""
SIGNAL_RETRIED: Final = "retried"
"""Takes a Retried, or nothing when the retry came to nothing."""
SIGNAL_LEAVE: Final = "leave"
"""Takes a sentence that says why: the entry goes."""


class WorkflowRetry(TolerantModel):
    """Temporal's retry policy of a whole workflow, for who starts it again."""

    initial_interval_seconds: float
    backoff_coefficient: float
    maximum_interval_seconds: float | None = None
    maximum_attempts: int = 0
    non_retryable_error_types: tuple[str, ...] = ()


class DeadLetter(TolerantModel):
    """Work that failed for good. Only ever grows by optional fields: entries outlive releases."""

    workflow: str
    """Its name in the factory."""
    type: str
    """Temporal's name of it."""
    id: str
    """Of the workflow. A retry has it too."""
    run_id: str
    """Of the run that failed last."""
    queue: str
    input_digest: str
    error: str
    """The sentence of what went wrong."""
    error_type: str = ""
    """By which code tells errors apart."""
    failed_at: datetime
    failures: int = 1
    """How often it has failed, each time for good."""
    timeout_seconds: float | None = None
    """From start to end; None: as long as it takes."""
    retry: WorkflowRetry | None = None
    """Of the workflow as a whole; None: a failure is one."""


class Retried(TolerantModel):
    """The work is being tried again."""

    run_id: str
    at: datetime
    by: str = ""
    """Who asked for it; empty: somebody who started the same work again."""
