"""The times at which nothing of a job may run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from typing import Final

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from perdure_api.conditions import Reason
    from perdure_api.events import EventNote
    from perdure_api.workflow import Wishes
    from perdure_workers.story import Story
    from perdure_workers.workflows import calls
    from perdure_workers.workflows.notes import note


NOTHING_RUNS_ON: Final = "nothing-runs-on-while-suspended"


class Suspension:
    """Waits as long as a job is to be suspended, and lets nothing go on beside it.

    Args:
        wishes: What is wished now.
        story: Is told of it.
        publish: Publishes the story, with notes.
        end_next: Ends what there may be of the next attempt.
        seconds: For how long the job was suspended before.
    """

    def __init__(
        self,
        wishes: Callable[[], Wishes],
        story: Story,
        publish: Callable[[EventNote], Awaitable[None]],
        end_next: Callable[[], Awaitable[None]],
        seconds: float,
    ) -> None:
        self._wishes = wishes
        self._story = story
        self._publish = publish
        self._end_next = end_next
        self.since: datetime | None = None
        """When the job was suspended; None: it is not."""
        self.seconds = seconds
        """For how long it was, in all, without the time since then."""

    async def wait_for_end(self) -> None:
        """Returns when the job may go on."""
        if not self._wished():
            return
        self.since = workflow.now()
        self._story.suspended(workflow.now())
        told = self._story.status.message or "suspended"
        await self._publish(note(Reason.SUSPENDED, told, self._wishes().generation))
        while (wishes := self._wishes()).suspend:
            # A worker that died may have begun the next attempt: because of a wish, or a pause that was over, before
            # this one was known. Of that there is nothing in the history.
            if workflow.patched(NOTHING_RUNS_ON):
                await self._end_next()
            await workflow.wait_condition(lambda heard=wishes: self._wishes() is not heard)  # type: ignore[misc]
        self.seconds += (workflow.now() - self.since).total_seconds()
        self.since = None
        self._story.resumed(workflow.now(), self.seconds)
        await self._publish(note(Reason.RESUMED, "resumed", self._wishes().generation))

    def _wished(self) -> bool:
        return self._wishes().suspend

    async def unless_it_comes(self, work: Coroutine[None, None, None]) -> bool:
        """Whether the work was done before the job was suspended; its failure is raised."""
        task = asyncio.create_task(work)
        try:
            await workflow.wait_condition(lambda: task.done() or self._wished())
        except asyncio.CancelledError:
            await calls.end(task)
            raise
        if task.done():
            task.result()
            return True
        await calls.end(task)
        return False

    async def pause(self, seconds: float) -> None:
        """Waits, unless the job is suspended: then it begins anew as soon as it is resumed."""
        await self.unless_it_comes(_sleep(seconds))


async def _sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)
