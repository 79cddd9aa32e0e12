"""Checkpoints that are asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from perdure_api.conditions import Reason
    from perdure_api.events import EventNote
    from perdure_api.progress import AttemptCommand, Command
    from perdure_api.workflow import CheckpointRequest, JobRef
    from perdure_workers.messages import CommandAttempt
    from perdure_workers.workflows import calls
    from perdure_workers.workflows.notes import note, warning


class CheckpointRequests:
    """Hands each request on to the attempt that runs.

    Args:
        job: Whose.
        tell: Records an Event.
        answered: The id of the newest one that was heard of.
    """

    def __init__(self, job: JobRef, tell: Callable[[EventNote], Awaitable[None]], answered: str) -> None:
        self._job = job
        self._tell = tell
        self._waiting: list[CheckpointRequest] = []
        self.answered = answered
        """The id of the newest one that was heard of: sent again, it is the same."""
        self.attempt: int | None = None
        """The attempt that runs."""

    def ask(self, request: CheckpointRequest) -> None:
        """Takes note of a request."""
        if not request.id or request.id != self.answered:
            self.answered = request.id
            self._waiting.append(request)

    async def answer(self) -> None:
        """Has the trainer told of each request, for ever; that it has saved is told by the trainer itself."""
        while True:
            await workflow.wait_condition(lambda: bool(self._waiting))
            request = self._waiting.pop(0)
            attempt = self.attempt
            why = f": {request.reason}" if request.reason else ""
            if attempt is not None and await self._command(attempt, request):
                await self._tell(note(Reason.CHECKPOINT_ASKED, f"a checkpoint was asked for{why}"))
            else:
                message = f"a checkpoint was asked for{why}; no trainer runs now, and what was saved before stays"
                await self._tell(warning(Reason.CHECKPOINT_ASKED, message))

    async def _command(self, attempt: int, request: CheckpointRequest) -> bool:
        command = AttemptCommand(
            command=Command.CHECKPOINT, id=request.id or str(workflow.uuid4()), reason=request.reason
        )
        return await calls.command_attempt(CommandAttempt(job=self._job, attempt=attempt, command=command))
