"""Workflows of another package, as the factory's tests and those of the workers meet them."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from pydantic import BaseModel
from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError

from perdure_control.factory import Duplicates, WorkflowEntry


class Greeting(BaseModel):
    who: str
    times: int = 1
    tags: set[str] = set()
    fails: bool = False
    waits: bool = False


class Greeted(BaseModel):
    text: str


@activity.defn
def greet(greeting: Greeting) -> str:
    """Not asynchronous, on purpose."""
    if greeting.fails:
        raise ApplicationError(f"{greeting.who} is not at home", non_retryable=True)
    return ", ".join([f"Hello {greeting.who}"] * greeting.times)


@workflow.defn
class GreetWorkflow:
    def __init__(self) -> None:
        self.told = False

    @workflow.run
    async def run(self, greeting: Greeting) -> Greeted:
        if greeting.waits:
            await workflow.wait_condition(lambda: self.told)
        text = await workflow.execute_activity(
            greet, greeting, start_to_close_timeout=timedelta(seconds=10), retry_policy=RetryPolicy(maximum_attempts=1)
        )
        await asyncio.sleep(0)
        return Greeted(text=text)

    @workflow.signal
    def tell(self) -> None:
        self.told = True


@workflow.defn(name="TrainingWorkflow")
class Impostor:
    @workflow.run
    async def run(self, greeting: Greeting) -> None:
        """Would take the operator's workflows."""


GREET = WorkflowEntry(
    name="greet",
    description="Says hello.",
    workflow=GreetWorkflow,
    input=Greeting,
    result=Greeted,
    activities=(greet,),
)
ONCE = WorkflowEntry(
    name="greet_once",
    description="Says hello, and never again.",
    workflow="GreetWorkflow",
    input=Greeting,
    result=Greeted,
    queue="elsewhere",
    id=lambda greeting: f"greet_once-{greeting.who}",
    duplicates=Duplicates.REJECT,
)
IMPOSTOR = WorkflowEntry(name="impostor", description="Takes a name.", workflow=Impostor, input=Greeting)
NAMED_ONLY = WorkflowEntry(name="named_only", description="Has no class.", workflow="GreetWorkflow", input=Greeting)
NOT_AN_ENTRY = "greet"


class Failing(BaseModel):
    what: str
    waits: bool = False
    waits_when_healed: bool = False


HEALED: set[str] = set()
"""What does not fail any more, in this process."""


@activity.defn
def try_it(failing: Failing) -> str:
    if failing.what not in HEALED:
        raise ApplicationError(f"no {failing.what} today", type="NotToday")
    return failing.what


@workflow.defn
class FailWorkflow:
    def __init__(self) -> None:
        self.may_go_on = False

    @workflow.run
    async def run(self, failing: Failing) -> Greeted:
        if failing.waits:
            await workflow.wait_condition(lambda: self.may_go_on)
        text = await workflow.execute_activity(
            try_it, failing, start_to_close_timeout=timedelta(seconds=10), retry_policy=RetryPolicy(maximum_attempts=1)
        )
        if failing.waits_when_healed:
            await workflow.wait_condition(lambda: self.may_go_on)
        return Greeted(text=text)

    @workflow.signal
    def go_on(self) -> None:
        self.may_go_on = True


FAIL = WorkflowEntry(
    name="fail",
    description="Fails until it is healed.",
    workflow=FailWorkflow,
    input=Failing,
    result=Greeted,
    activities=(try_it,),
)
