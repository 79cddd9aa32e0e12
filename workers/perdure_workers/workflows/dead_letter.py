"""The workflow that is an entry of the list of dead letters."""

from __future__ import annotations

from temporalio import workflow
from temporalio.common import RawValue, VersioningBehavior

with workflow.unsafe.imports_passed_through():
    from perdure_api import names
    from perdure_api.dead_letter import MEMO_RETRIED, SIGNAL_LEAVE, SIGNAL_RETRIED, Retried


@workflow.defn(name=names.DEAD_LETTER_WORKFLOW_TYPE)
class DeadLetterWorkflow:
    """Holds the input of work that failed for good, until it is told to leave the list."""

    def __init__(self) -> None:
        self._left: str | None = None

    @workflow.run
    async def run(self, given: RawValue) -> str:  # noqa: ARG002 - it is kept, not used
        """Why it left the list."""
        await workflow.wait_condition(lambda: self._left is not None)
        return self._left or ""

    @workflow.signal(name=SIGNAL_RETRIED)
    def retried(self, retried: Retried | None) -> None:
        """Says in the memo that the work is being tried again, or is no more."""
        workflow.upsert_memo({MEMO_RETRIED: retried})

    @workflow.signal(name=SIGNAL_LEAVE)
    def leave(self, why: str) -> None:
        """Has it leave the list."""
        self._left = why


@workflow.defn(name=names.DEAD_LETTER_WORKFLOW_TYPE, versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class MovingDeadLetterWorkflow(DeadLetterWorkflow):
    """The same where workers have versions: an entry that nobody looks at for a month keeps no old workers."""

    @workflow.run
    async def run(self, given: RawValue) -> str:
        """As ever."""
        return await super().run(given)
