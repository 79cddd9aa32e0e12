"""A workflow whose first task is long, as that of one that creates something within it."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow


@workflow.defn
class SlowStartWorkflow:
    """Begins by a local activity, and ends when it is told to."""

    def __init__(self) -> None:
        self._is_told = False

    @workflow.run
    async def run(self) -> None:
        """Begins, and waits."""
        await workflow.execute_local_activity("begin", start_to_close_timeout=timedelta(minutes=5))
        await workflow.wait_condition(lambda: self._is_told)

    @workflow.signal
    def end(self) -> None:
        """Told."""
        self._is_told = True
