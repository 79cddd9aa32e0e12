"""Activities whose dependency goes away and comes back, on a real Temporal: work waits in its queue, attempts too."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry
from temporalio import activity
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory, CancelledError
from temporalio.worker import Replayer, Worker

from perdure_api import names
from perdure_control.factory import Breaker, Registry, WorkflowEntry, start_workflow
from perdure_workers import extensions
from perdure_workers.breakers.board import Breakers
from perdure_workers.breakers.circuit import State
from perdure_workers.breakers.watching import is_failure
from perdure_workers.process import sandbox
from tests.temporal_server import dev_server
from tests.workers.breakers.calls import ATTEMPTS, Call, CallWorkflow

module_loop = pytest.mark.asyncio(loop_scope="module")
_numbers = itertools.count(1)


class Dependency:
    """What the activities lean on."""

    def __init__(self) -> None:
        self.is_away = False
        self.refuses = False
        self.calls: list[int] = []

    @activity.defn(name="call_it")
    async def call_it(self, call: Call) -> int:
        self.calls.append(call.number)
        if call.hangs:
            await asyncio.sleep(3600)
        if self.refuses:
            raise ApplicationError("a broken input", non_retryable=True)
        if self.is_away:
            raise OSError("connection refused")
        return call.number


BREAKER = Breaker(failure_rate=0.5, least=3, window_seconds=60, pause_seconds=0.2, longest_pause_seconds=0.2)


def entry(dependency: Dependency) -> WorkflowEntry[Call]:
    return WorkflowEntry(
        name="call",
        description="Leans on something.",
        workflow=CallWorkflow,
        input=Call,
        activities=(dependency.call_it,),
        breaker=BREAKER,
    )


class Clock:
    """Stands still until it is told to go on, so that no pause ends by itself."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[Client]:
    async with dev_server() as client:
        yield client


@asynccontextmanager
async def working(client: Client, dependency: Dependency, clock: Clock) -> AsyncIterator[Breakers]:
    """The workers of a process, as far as this is about them."""
    found = extensions.usable(Registry({"call": entry(dependency)}, {"call": "tests"}), sandbox())
    breakers = Breakers(found.activities, found.breakers, clock)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(
            Worker(
                client,
                task_queue=names.TASK_QUEUE_CPU,
                workflows=found.workflows,
                activities=found.activities,
                workflow_runner=sandbox(),
                interceptors=[breakers.routing()],
            )
        )
        for worker in breakers.workers(client, 4, [], 1.0, None):
            await stack.enter_async_context(worker)
        yield breakers


async def begin(client: Client, **given: bool) -> WorkflowHandle[Any, Any]:
    registry = Registry({"call": entry(Dependency())})
    call = Call(number=next(_numbers), **given)
    started = await start_workflow(client, "call", call, f"call-{call.number}", registry=registry)
    return started.handle


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - several tasks change it
            await asyncio.sleep(0.02)


async def attempts_of(handle: WorkflowHandle[Any, Any]) -> int:
    """How many attempts of its activity there were so far, as Temporal counts them."""
    described = await handle.describe()
    return max((each.attempt for each in described.raw_description.pending_activities), default=0)


async def looked_at_often(*handles: WorkflowHandle[Any, Any]) -> list[int]:
    """Attempts of each, after so many calls of the server that all of them would be used up if nothing held them."""
    used: list[int] = []
    for _ in range(20):
        used = [await attempts_of(handle) for handle in handles]
    return used


async def calls_once_quiet(dependency: Dependency, *handles: WorkflowHandle[Any, Any]) -> int:
    """How many calls there were when all that was asked for before a breaker opened has come: two tasks, perhaps."""
    before = -1
    while before != len(dependency.calls):
        before = len(dependency.calls)
        await looked_at_often(*handles)
    return before


def state_of(breakers: Breakers) -> State:
    return breakers.circuits["call_it"].state


@pytest.mark.temporal
@module_loop
async def test_while_it_is_open_work_waits_in_its_queue_with_its_attempts_and_all_of_it_is_done_in_the_end(
    client: Client,
) -> None:
    dependency, clock = Dependency(), Clock()
    dependency.is_away = True
    async with working(client, dependency, clock) as breakers:
        first = [await begin(client) for _ in range(3)]
        await until(lambda: state_of(breakers) is State.OPEN)
        later = [await begin(client) for _ in range(10)]
        # What was asked for when it opened comes all the same: one task for each worker.
        await until(lambda: len(dependency.calls) > 3)
        used = await looked_at_often(*first, *later)

        assert len(dependency.calls) <= 6, "three that failed, what was on its way, and no more"
        assert max(used) < ATTEMPTS

        dependency.is_away = False
        clock.now += 1

        assert sorted(await asyncio.gather(*(handle.result() for handle in (*first, *later)))) == sorted(
            int(handle.id.removeprefix("call-")) for handle in (*first, *later)
        )
        assert state_of(breakers) is State.CLOSED


@pytest.mark.temporal
@module_loop
async def test_half_open_it_lets_one_task_through_and_one_that_fails_opens_it_again(client: Client) -> None:
    dependency, clock = Dependency(), Clock()
    dependency.is_away = True
    async with working(client, dependency, clock) as breakers:
        handles = [await begin(client) for _ in range(8)]
        await until(lambda: state_of(breakers) is State.OPEN)
        await until(lambda: len(dependency.calls) > 3)
        before = await calls_once_quiet(dependency, *handles)

        clock.now += 0.3
        await until(lambda: len(dependency.calls) > before)
        await until(lambda: state_of(breakers) is State.OPEN)
        await looked_at_often(*handles)

        assert len(dependency.calls) == before + 1
        dependency.is_away = False
        clock.now += 0.3
        await asyncio.gather(*(handle.result() for handle in handles))


@pytest.mark.temporal
@module_loop
async def test_what_hangs_opens_it_too(client: Client) -> None:
    dependency, clock = Dependency(), Clock()
    async with working(client, dependency, clock) as breakers:
        handles = [await begin(client, hangs=True) for _ in range(3)]

        await until(lambda: state_of(breakers) is State.OPEN)

        for handle in handles:
            with pytest.raises(WorkflowFailureError):
                await handle.result()


@pytest.mark.temporal
@module_loop
async def test_broken_inputs_never_open_it(client: Client) -> None:
    dependency, clock = Dependency(), Clock()
    dependency.refuses = True
    async with working(client, dependency, clock) as breakers:
        for handle in [await begin(client) for _ in range(6)]:
            with pytest.raises(WorkflowFailureError):
                await handle.result()

        assert state_of(breakers) is State.CLOSED


@pytest.mark.temporal
@module_loop
async def test_a_history_of_before_it_had_a_breaker_replays(client: Client) -> None:
    """The activity was sent to another queue then."""
    dependency = Dependency()
    async with Worker(
        client,
        task_queue=names.TASK_QUEUE_CPU,
        workflows=[CallWorkflow],
        activities=[dependency.call_it],
        workflow_runner=sandbox(),
    ):
        handle = await begin(client)
        await handle.result()
        history = await handle.fetch_history()
    routing = Breakers([dependency.call_it], {"call_it": BREAKER}).routing()

    replayer = Replayer(
        workflows=[CallWorkflow],
        workflow_runner=sandbox(),
        data_converter=pydantic_data_converter,
        interceptors=[routing],
    )
    await replayer.replay_workflow(history)


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (OSError("away"), True),
        (ApplicationError("503", type="Away"), True),
        (ApplicationError("no such thing", non_retryable=True), None),
        (ApplicationError("wait", category=ApplicationErrorCategory.BENIGN), None),
        (ApplicationError("final", type="Final"), None),
        (KeyError("final by its class"), None),
        (CancelledError("somebody"), None),
        (asyncio.CancelledError(), None),
    ],
    ids=["any", "retryable", "not retryable", "benign", "type", "class", "cancelled", "cancelled by asyncio"],
)
def test_what_says_that_a_dependency_is_away(error: BaseException, *, failure: bool | None) -> None:
    assert is_failure(error, frozenset({"Final", "KeyError"})) is failure


async def test_prometheus_sees_the_state_of_each() -> None:
    registry, dependency = CollectorRegistry(), Dependency()
    breakers = Breakers([dependency.call_it], {"call_it": BREAKER})
    breakers.register(registry)

    def states() -> dict[str, float | None]:
        return {
            str(state): registry.get_sample_value("perdure_breaker_state", {"activity": "call_it", "state": str(state)})
            for state in State
        }

    assert states() == {"closed": 1, "open": 0, "half-open": 0}
    for number in range(3):
        breakers.circuits["call_it"].note(number, 0, failed=True)
    assert states() == {"closed": 0, "open": 1, "half-open": 0}


async def test_two_workflows_that_share_an_activity_and_not_its_breaker_are_told() -> None:
    one = entry(Dependency())
    other = dataclasses.replace(one, name="other", breaker=None)

    found = extensions.usable(Registry({"call": one, "other": other}, {"call": "a", "other": "b"}), sandbox())

    assert [problem.partition(": ")[2] for problem in found.problems] == [
        "its activity call_it has another breaker in another workflow; give both the same"
    ]
    assert found.breakers == {"call_it": BREAKER}
