"""A workflow whose activity leans on something that may be away. A file of its own: the sandbox imports it."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from pydantic import BaseModel
from temporalio import workflow
from temporalio.common import RetryPolicy

ATTEMPTS: Final = 4


class Call(BaseModel):
    number: int
    hangs: bool = False


@workflow.defn
class CallWorkflow:
    @workflow.run
    async def run(self, call: Call) -> int:
        attempts = 1 if call.hangs else ATTEMPTS
        result: int = await workflow.execute_activity(
            "call_it",
            call,
            result_type=int,
            start_to_close_timeout=timedelta(milliseconds=300) if call.hangs else timedelta(seconds=10),
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=10), maximum_attempts=attempts),
        )
        return result
