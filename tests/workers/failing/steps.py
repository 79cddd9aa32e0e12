"""A workflow with side effects that can be counted from outside: lines in files."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel
from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, TimeoutError  # noqa: A004 - Temporal's name

from perdure_control.factory import WorkflowEntry

RETRIES = RetryPolicy(initial_interval=timedelta(milliseconds=100), maximum_attempts=3)


class Steps(BaseModel):
    folder: Path
    """`log` in it is what was done; `go` lets `hold` end."""
    hold: bool = False
    hang: bool = False
    wait: bool = False


class Done(BaseModel):
    text: str


@activity.defn
def write(folder: Path, word: str) -> None:
    """A side effect."""
    with (folder / "log").open("a") as log:
        log.write(f"{word}\n")


@activity.defn
async def hold(folder: Path) -> int:
    """Begins, says so, and waits; it goes on where an attempt before it was. Returns the process that ended it."""
    done = activity.info().heartbeat_details
    write(folder, f"hold {activity.info().attempt} {os.getpid()}{' resumed' if done else ''}")
    while not (folder / "go").exists():
        activity.heartbeat("so far")
        await asyncio.sleep(0.1)
    return os.getpid()


@activity.defn
def hang(folder: Path) -> None:
    """Begins, says so, and comes to no end in time."""
    write(folder, f"hang {activity.info().attempt}")
    time.sleep(3)


@workflow.defn
class StepsWorkflow:
    def __init__(self) -> None:
        self.told = False

    @workflow.run
    async def run(self, steps: Steps) -> Done:
        await self.write(steps, "one")
        text = ""
        if steps.hold:
            pid: int = await workflow.execute_activity(
                hold,
                steps.folder,
                start_to_close_timeout=timedelta(minutes=5),
                heartbeat_timeout=timedelta(seconds=2),
                retry_policy=RETRIES,
            )
            text = f"held by {pid}"
        if steps.hang:
            try:
                await workflow.execute_activity(
                    hang, steps.folder, start_to_close_timeout=timedelta(seconds=1), retry_policy=RETRIES
                )
            except ActivityError as error:
                text = "went on without" if isinstance(error.cause, TimeoutError) else "something else"
        if steps.wait:
            await workflow.wait_condition(lambda: self.told)
        await self.write(steps, "two")
        return Done(text=text)

    @workflow.signal
    def tell(self) -> None:
        self.told = True

    async def write(self, steps: Steps, word: str) -> None:
        await workflow.execute_activity(
            write, args=[steps.folder, word], start_to_close_timeout=timedelta(seconds=30), retry_policy=RETRIES
        )


STEPS = WorkflowEntry(
    name="steps",
    description="Takes steps that leave traces.",
    workflow=StepsWorkflow,
    input=Steps,
    result=Done,
    activities=(write, hold, hang),
)
