"""Workflows started by their names on a real Temporal: once, twice, and with what it does not take."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import pytest_asyncio
from temporalio.client import Client, WorkflowFailureError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from perdure_api import names
from perdure_control.factory import Duplicates, Registry, WorkflowEntry, start_workflow
from perdure_control.factory.builtin import FINE_TUNE
from perdure_control.factory.errors import (
    AlreadyStarted,
    InputTooLarge,
    InvalidId,
    InvalidInput,
    TemporalAway,
    UnknownWorkflow,
)
from perdure_workers import extensions
from perdure_workers.process import WORKFLOWS, sandbox
from tests.control.factory.workflows import GREET, ONCE, Greeted, Greeting, GreetWorkflow, greet
from tests.temporal_server import cpu_worker, dev_server

pytestmark = [pytest.mark.temporal, pytest.mark.asyncio(loop_scope="module")]

ONE_OF_OURS = dataclasses.replace(ONCE, queue=names.TASK_QUEUE_CPU)
AGAIN = dataclasses.replace(GREET, name="greet_again", duplicates=Duplicates.REPEAT)
ODD = dataclasses.replace(GREET, name="greet_oddly", queue="gpu/größe: 4 | 🦊 %2F")
REGISTRY = Registry({each.name: each for each in (GREET, ONE_OF_OURS, AGAIN, ODD, FINE_TUNE)}, {"greet": "tests"})
_people = itertools.count(1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[Client]:
    """Of a server whose workers have what the registry brings, beside Perdure's own, as a process registers it."""
    brought = extensions.usable(Registry({"greet": GREET}, {"greet": "tests"}), sandbox())
    workflows = [*WORKFLOWS, *brought.workflows]
    async with dev_server() as client, cpu_worker(client, workflows, brought.activities):
        yield client


@pytest.fixture
def who() -> str:
    """Somebody whom no other test greets."""
    return f"person-{next(_people)}"


async def start(client: Client, entry: WorkflowEntry[Any], given: Any, id_: str | None = None) -> Any:
    return await start_workflow(client, entry.name, given, id_, registry=REGISTRY)


async def test_a_workflow_is_started_by_its_name_and_returns_its_result_model(client: Client, who: str) -> None:
    started = await start(client, GREET, {"who": who, "times": 2})

    assert (started.joined, started.id) == (False, GREET.derived_id(Greeting(who=who, times=2)))
    assert await started.handle.result() == Greeted(text=f"Hello {who}, Hello {who}")


async def test_a_second_start_joins_the_one_that_runs(client: Client, who: str) -> None:
    first = await start(client, GREET, {"who": who, "waits": True})
    second = await start(client, GREET, Greeting(who=who, waits=True))

    assert (second.joined, second.id) == (True, first.id)
    await second.handle.signal("tell")
    assert await first.handle.result() == await second.handle.result() == Greeted(text=f"Hello {who}")


async def test_a_second_start_joins_the_one_that_has_completed(client: Client, who: str) -> None:
    first = await start(client, GREET, {"who": who})
    await first.handle.result()

    second = await start(client, GREET, {"who": who})

    assert second.joined
    assert await second.handle.result() == Greeted(text=f"Hello {who}")


async def test_one_that_failed_is_begun_anew(client: Client, who: str) -> None:
    first = await start(client, GREET, {"who": who, "fails": True})
    with pytest.raises(WorkflowFailureError):
        await first.handle.result()

    assert not (await start(client, GREET, {"who": who, "fails": True})).joined


async def test_where_duplicates_are_rejected_a_second_start_is_an_error(client: Client, who: str) -> None:
    first = await start(client, ONE_OF_OURS, {"who": who})

    with pytest.raises(AlreadyStarted, match=f"greet_once-{who} was started already"):
        await start(client, ONE_OF_OURS, {"who": who})

    await first.handle.result()
    with pytest.raises(AlreadyStarted):
        await start(client, ONE_OF_OURS, {"who": who})


async def test_where_they_are_repeated_only_one_that_runs_is_joined(client: Client, who: str) -> None:
    first = await start(client, AGAIN, {"who": who, "waits": True})
    second = await start(client, AGAIN, {"who": who, "waits": True})
    await first.handle.signal("tell")
    await second.handle.result()

    third = await start(client, AGAIN, {"who": who, "waits": True})

    assert (first.joined, second.joined, third.joined, third.id) == (False, True, False, first.id)
    await third.handle.signal("tell")


async def test_an_id_by_hand_is_joined_for_the_same_input_only(client: Client, who: str) -> None:
    await start(client, GREET, {"who": who}, who)

    assert (await start(client, GREET, {"who": who}, who)).joined
    with pytest.raises(AlreadyStarted, match=f"{who} was started already, with another input"):
        await start(client, GREET, {"who": "somebody else"}, who)


async def test_an_id_of_a_workflow_of_another_type_is_not_joined(client: Client, who: str) -> None:
    await start(client, GREET, {"who": who}, who)
    wish = {"namespace": "a", "name": "b", "spec": {"trainer": {"image": "i", "command": ["true"]}}}

    with pytest.raises(AlreadyStarted, match=f"{who} is the id of another workflow, a GreetWorkflow"):
        await start(client, FINE_TUNE, wish, who)


@pytest.mark.parametrize(
    ("id_", "says"),
    [
        ("", "expected 1 to 1000 characters"),
        ("x" * 1001, r"\(1001 characters\)"),
        ("a\nb", "that can be printed"),
        ("trainingjob/ns/job/uid", "is an id of a TrainingJob's own workflow"),
        ("dead-letter/x", "is an id of a dead letter"),
    ],
    ids=["empty", "long", "two lines", "the operator's", "a dead letter's"],
)
async def test_an_id_that_cannot_be_is_refused(client: Client, id_: str, says: str) -> None:
    with pytest.raises(InvalidId, match=says):
        await start(client, GREET, {"who": "x"}, id_)


async def test_a_queue_may_have_odd_characters_in_its_name(client: Client, who: str) -> None:
    there = await start(client, ODD, {"who": who})
    workflows, runner = [GreetWorkflow], UnsandboxedWorkflowRunner()
    with ThreadPoolExecutor(1) as executor:
        async with Worker(
            client, task_queue=ODD.queue, workflows=workflows, workflow_runner=runner,
            activities=[greet], activity_executor=executor, max_concurrent_activities=1,
        ):  # fmt: skip
            assert await there.handle.result() == Greeted(text=f"Hello {who}")


async def test_an_unknown_name_and_a_wrong_input_start_nothing(client: Client) -> None:
    with pytest.raises(UnknownWorkflow):
        await start_workflow(client, "gret", {"who": "x"}, registry=REGISTRY)
    with pytest.raises(InvalidInput):
        await start(client, GREET, {"whom": "x"})


async def test_an_input_that_temporal_would_not_take_is_refused_with_what_to_do(client: Client) -> None:
    with pytest.raises(InputTooLarge, match=r"has 3\.0 MiB; Temporal takes at most 2 MiB\. Put what is large into"):
        await start(client, GREET, {"who": "x" * (3 << 20)})


async def test_the_largest_input_that_is_let_through_temporal_takes(client: Client, who: str) -> None:
    started = await start(client, GREET, {"who": who + "x" * ((2 << 20) - 200), "times": 0})

    assert await started.handle.result() == Greeted(text="")


async def test_a_namespace_that_is_not_there_is_said(client: Client) -> None:
    elsewhere = Client(**{**client.config(), "namespace": "nowhere"})

    with pytest.raises(TemporalAway, match=r"namespace nowhere: not_found: "):
        await start(elsewhere, GREET, {"who": "x"})
