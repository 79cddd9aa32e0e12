"""Work that failed for good: it comes on the list, is tried again, dropped, or done after all; on a real Temporal."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError
from temporalio.common import RetryPolicy

from perdure_api.dead_letter import DeadLetter, Retried
from perdure_control.factory import Registry, WorkflowEntry, letters, start_workflow
from perdure_control.factory.errors import AlreadyStarted, NoDeadLetter
from perdure_control.factory.letters import Entry
from perdure_control.factory.start import MEMO_INPUT
from perdure_workers.dead_letters import keeper as keeper_module
from perdure_workers.dead_letters.due import Leave, Run, Tell, due
from perdure_workers.dead_letters.keeper import DeadLetterKeeper
from perdure_workers.workflows.dead_letter import DeadLetterWorkflow
from tests.control.factory import workflows
from tests.control.factory.workflows import FAIL, Failing, FailWorkflow
from tests.temporal_server import cpu_worker, dev_server

module_loop = pytest.mark.asyncio(loop_scope="module")
FAILED_AT = datetime(2026, 11, 23, tzinfo=UTC)
LETTER = DeadLetter(
    workflow="w", type="W", id="a", run_id="1", queue="q", input_digest="d", error="e", failed_at=FAILED_AT
)
RETRIED = Retried(run_id="2", at=FAILED_AT, by="Ada")
LATER = FAILED_AT + timedelta(seconds=1)
_numbers = itertools.count(1)


def newest(run_id: str, status: str, started: datetime = LATER) -> Run:
    return Run(run_id, started, WorkflowExecutionStatus[status])


@pytest.mark.parametrize(
    ("retried", "run", "becomes"),
    [
        (None, None, None),
        (None, newest("1", "FAILED", FAILED_AT - timedelta(hours=1)), None),
        (None, newest("0", "COMPLETED", FAILED_AT - timedelta(hours=1)), None),
        (RETRIED, newest("2", "RUNNING"), None),
        (None, newest("2", "RUNNING"), Tell(Retried(run_id="2", at=LATER))),
        (RETRIED, newest("2", "COMPLETED"), Leave("run 2 of it has completed")),
        (None, newest("2", "COMPLETED"), Leave("run 2 of it has completed")),
        (RETRIED, newest("2", "FAILED"), None),
        (RETRIED, newest("3", "FAILED"), Leave("run 3 of it has failed too")),
        (RETRIED, newest("3", "TIMED_OUT"), Leave("run 3 of it has failed too")),
        (RETRIED, newest("2", "CANCELED"), Tell(None)),
        (RETRIED, newest("2", "TERMINATED"), Tell(None)),
        (None, newest("2", "TERMINATED"), None),
        (RETRIED, newest("2", "CONTINUED_AS_NEW"), None),
    ],
    ids=[
        "forgotten by Temporal: it stays",
        "nothing came after it",
        "what came before it counts for nothing",
        "its retry runs",
        "somebody started the same work again",
        "its retry has completed",
        "the same work has completed",
        "its retry has failed and is not on the list yet",
        "its retry is on the list",
        "its retry timed out",
        "its retry was cancelled: it waits again",
        "its retry was terminated: it waits again",
        "somebody else's was terminated",
        "its retry goes on in a new run",
    ],
)
def test_what_becomes_of_an_entry(retried: Retried | None, run: Run | None, becomes: Any) -> None:
    assert due(Entry(LETTER, retried), run, frozenset({"1", "3"})) == becomes


REGISTRY = Registry({"fail": FAIL, "fail_slowly": dataclasses.replace(FAIL, timeout=timedelta(seconds=1))})


# A run is deleted once its end is acknowledged in Temporal's queues, which is every half minute unless told otherwise.
DELETES_SOON = [f'history.{queue}ProcessorUpdateAckInterval="1s"' for queue in ("transfer", "visibility", "timer")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[Client]:
    workflows = [FailWorkflow, DeadLetterWorkflow]
    async with dev_server(*DELETES_SOON) as client, cpu_worker(client, workflows, FAIL.activities):
        yield client


@pytest.fixture
def keeper(client: Client) -> DeadLetterKeeper:
    """One that has seen nothing yet, as that of a worker which has just started."""
    return DeadLetterKeeper(lambda: client)


@pytest.fixture
def id_() -> str:
    return f'it\'s-{next(_numbers)}\\of-"many"'


async def fails(client: Client, id_: str, entry: WorkflowEntry[Failing] = FAIL, **given: Any) -> str:
    """The run of a workflow that has failed."""
    registry = Registry({entry.name: entry})
    started = await start_workflow(client, entry.name, {"what": id_, **given}, id_, registry=registry)
    with pytest.raises(WorkflowFailureError):
        await started.handle.result()
    return started.handle.first_execution_run_id or ""


async def forget(client: Client, id_: str, run_id: str) -> None:
    """Has Temporal delete a run, as it does by itself after its retention."""
    run = WorkflowExecution(workflow_id=id_, run_id=run_id)
    request = DeleteWorkflowExecutionRequest(namespace=client.namespace, workflow_execution=run)
    await client.workflow_service.delete_workflow_execution(request)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await holds():  # noqa: ASYNC110 - a server is asked
            await asyncio.sleep(0.05)


async def listed(client: Client, keeper: DeadLetterKeeper, id_: str, count: int = 1, failures: int = 1) -> list[Entry]:
    """The entries of an id, once a look has made them so many."""
    found: list[Entry] = []

    async def there() -> bool:
        await keeper.look()
        assert keeper.problem is None
        found[:] = [entry for entry in await letters.entries(client) if entry.letter.id == id_]
        return len(found) == count and all(entry.letter.failures == failures for entry in found)

    await until(there)
    return found


@pytest.mark.temporal
@module_loop
class TestList:
    async def test_work_that_failed_is_listed_with_its_input_its_error_and_its_run(
        self, client: Client, keeper: DeadLetterKeeper, id_: str
    ) -> None:
        run_id = await fails(client, id_)

        (entry,) = await listed(client, keeper, id_)

        letter = entry.letter
        assert (letter.workflow, letter.type, letter.id, letter.run_id) == ("fail", "FailWorkflow", id_, run_id)
        assert (letter.error, letter.error_type) == (f"no {id_} today", "NotToday")
        assert entry.retried is None
        assert (await letters.shown(client, entry))["what"] == id_
        assert await letters.has_history(client, entry)

    async def test_however_many_workers_see_it_there_is_one_entry(
        self, client: Client, keeper: DeadLetterKeeper, id_: str
    ) -> None:
        await fails(client, id_)
        await asyncio.gather(*(DeadLetterKeeper(lambda: client).look() for _ in range(3)))

        await listed(client, keeper, id_)
        await keeper.look()

        await listed(client, DeadLetterKeeper(lambda: client), id_)

    async def test_what_is_forgotten_by_temporal_is_on_the_list_all_the_same(
        self, client: Client, keeper: DeadLetterKeeper, id_: str
    ) -> None:
        run_id = await fails(client, id_)
        (entry,) = await listed(client, keeper, id_)

        await forget(client, id_, run_id)

        async def is_forgotten() -> bool:
            return not await letters.has_history(client, entry)

        await until(is_forgotten)
        workflows.HEALED.add(id_)
        await keeper.look()
        await letters.retry(client, entry, "Ada")
        await listed(client, keeper, id_, count=0)

    async def test_a_workflow_that_timed_out_is_listed_as_that(
        self, client: Client, keeper: DeadLetterKeeper, id_: str
    ) -> None:
        await fails(client, id_, dataclasses.replace(FAIL, timeout=timedelta(seconds=1)), waits=True)

        (entry,) = await listed(client, keeper, id_)

        assert (entry.letter.error, entry.letter.error_type) == ("it did not end within 1 s", "Timeout")
        assert entry.letter.timeout_seconds == 1

    async def test_of_a_workflow_that_is_retried_as_a_whole_only_the_last_run_is_listed(
        self, client: Client, keeper: DeadLetterKeeper, id_: str
    ) -> None:
        policy = RetryPolicy(initial_interval=timedelta(milliseconds=10), maximum_attempts=3)
        first = await fails(client, id_, dataclasses.replace(FAIL, retry=policy))

        (entry,) = await listed(client, keeper, id_)

        assert entry.letter.run_id != first
        assert entry.letter.retry is not None
        assert entry.letter.retry.maximum_attempts == 3

    async def test_what_somebody_ended_by_hand_is_not_listed(
        self, client: Client, keeper: DeadLetterKeeper, id_: str
    ) -> None:
        for what in ("cancel", "terminate"):
            name = f"{id_}-{what}"
            started = await start_workflow(client, "fail", {"what": name, "waits": True}, name, registry=REGISTRY)
            await getattr(started.handle, what)()
            with pytest.raises(WorkflowFailureError):
                await started.handle.result()
        await fails(client, id_)

        await listed(client, keeper, id_)

        assert [entry for entry in await letters.entries(client) if entry.letter.id.startswith(f"{id_}-")] == []

    async def test_one_that_cannot_be_listed_is_told_and_holds_no_other_up(
        self, client: Client, keeper: DeadLetterKeeper, id_: str
    ) -> None:
        """Somebody has started a workflow as the factory does, and without its input."""
        second = timedelta(seconds=1)
        odd = await client.start_workflow(
            "NobodysWorkflow", id=f"{id_}-odd", task_queue="nobodys", execution_timeout=second, memo={MEMO_INPUT: "x"}
        )
        with pytest.raises(WorkflowFailureError):
            await odd.result()
        await fails(client, id_)

        async def both() -> bool:
            await keeper.look()
            on_the_list = {entry.letter.id for entry in await letters.entries(client)}
            return keeper.problem is not None and id_ in on_the_list

        await until(both)
        assert keeper.problem
        assert keeper.problem.startswith(f"{id_}-odd has failed for good, and cannot be put on the list: ")
        await forget(client, odd.id, odd.first_execution_run_id or "")

        async def is_well_again() -> bool:
            await keeper.look()
            return keeper.problem is None

        await until(is_well_again)

    async def test_how_many_wait_is_told_by_workflow(self, client: Client, keeper: DeadLetterKeeper, id_: str) -> None:
        registry = CollectorRegistry()
        keeper.register(registry, ["fail", "other"])
        assert registry.get_sample_value("perdure_dead_letters", {"workflow": "other"}) is None, "not known"
        await fails(client, id_)

        await listed(client, keeper, id_)

        waiting = len([entry for entry in await letters.entries(client) if entry.retried is None])
        assert registry.get_sample_value("perdure_dead_letters", {"workflow": "other"}) == 0
        assert registry.get_sample_value("perdure_dead_letters", {"workflow": "fail"}) == waiting >= 1


@pytest.mark.temporal
@module_loop
class TestRetry:
    async def test_the_same_work_is_started_with_the_same_id_and_its_entry_says_so_and_goes_when_it_is_done(
        self, client: Client, keeper: DeadLetterKeeper, id_: str
    ) -> None:
        await fails(client, id_, waits_when_healed=True)
        (entry,) = await listed(client, keeper, id_)
        workflows.HEALED.add(id_)

        retried = await letters.retry(client, entry, "Ada")

        async def says_so() -> bool:
            return letters.named(id_, await letters.entries(client)).retried == retried

        await until(says_so)
        assert retried.by == "Ada"
        with pytest.raises(AlreadyStarted, match="is being tried again already"):
            await letters.retry(client, entry, "Bob")
        await keeper.look()
        assert await says_so(), "as long as it runs"
        await client.get_workflow_handle(id_).signal("go_on")
        assert await client.get_workflow_handle(id_, run_id=retried.run_id).result() == {"text": id_}
        await listed(client, keeper, id_, count=0)
        with pytest.raises(AlreadyStarted, match="has completed meanwhile"):
            await letters.retry(client, entry, "Ada")

    async def test_one_that_fails_again_is_one_entry_that_counts(
        self, client: Client, keeper: DeadLetterKeeper, id_: str
    ) -> None:
        first = await fails(client, id_)
        (entry,) = await listed(client, keeper, id_)

        await letters.retry(client, entry, "Ada")

        (again,) = await listed(client, keeper, id_, failures=2)
        assert (again.letter.run_id != first, again.retried) == (True, None)

    async def test_somebody_who_starts_the_same_work_by_its_name_retries_it_too(
        self, client: Client, keeper: DeadLetterKeeper, id_: str
    ) -> None:
        await fails(client, id_)
        await listed(client, keeper, id_)
        workflows.HEALED.add(id_)

        started = await start_workflow(client, "fail", {"what": id_}, id_, registry=REGISTRY)

        assert not started.joined
        await listed(client, keeper, id_, count=0)


@pytest.mark.temporal
@module_loop
class TestDrop:
    async def test_what_is_dropped_never_comes_back(self, client: Client, keeper: DeadLetterKeeper, id_: str) -> None:
        await fails(client, id_)
        (entry,) = await listed(client, keeper, id_)

        await letters.drop(client, entry, "dropped by Ada")

        handle = client.get_workflow_handle(entry.id)
        assert await handle.result() == "dropped by Ada"
        await listed(client, DeadLetterKeeper(lambda: client), id_, count=0)
        with pytest.raises(NoDeadLetter, match="is not there any more"):
            await letters.drop(client, entry, "again")


class TestNames:
    def test_an_entry_is_named_by_the_workflows_id_and_of_several_it_is_the_newest(self) -> None:
        there = [Entry(LETTER), Entry(LETTER.model_copy(update={"run_id": "2"}))]

        assert letters.named("a", there) is there[1]
        assert letters.named("dead-letter/1", there) is there[0]

    def test_a_name_that_is_not_there_is_told_with_the_nearest(self) -> None:
        there = [Entry(LETTER.model_copy(update={"id": "greet-12345"}))]

        with pytest.raises(NoDeadLetter, match='there is no dead letter "greet-1234"; did you mean "greet-12345"'):
            letters.named("greet-1234", there)
        with pytest.raises(NoDeadLetter, match="`perdure dead-letters list` shows"):
            letters.named("x", [])


async def test_a_temporal_that_is_away_is_a_problem_that_is_told_and_no_number() -> None:
    def away() -> Client:
        raise RuntimeError("not connected to Temporal yet")

    keeper = DeadLetterKeeper(away)
    await keeper.look()

    assert keeper.problem == "not looked for: not connected to Temporal yet"
    assert keeper.waiting is None
    assert keeper_module.LOOK_EVERY_SECONDS < 3600, "the shortest retention that Temporal takes"
