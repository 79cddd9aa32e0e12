"""A workflow whose file the sandbox does not take: it does at import what no workflow may do."""

from __future__ import annotations

import random

from pydantic import BaseModel
from temporalio import workflow

from perdure_control.factory import WorkflowEntry

LUCK = random.random()


class Nothing(BaseModel):
    pass


@workflow.defn
class UnsafeWorkflow:
    @workflow.run
    async def run(self, nothing: Nothing) -> float:
        return LUCK


UNSAFE = WorkflowEntry(name="unsafe", description="Depends on luck.", workflow=UnsafeWorkflow, input=Nothing)
