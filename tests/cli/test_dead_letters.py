"""`perdure dead-letters`, with a real Temporal, and a worker that keeps the list."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from rich.console import Console
from temporalio.client import Client, WorkflowFailureError

from perdure_api.dead_letter import DeadLetter, Retried
from perdure_cli import letters
from perdure_cli.letters import Found
from perdure_control.factory import Registry, start_workflow
from perdure_control.factory.letters import Entry, entries
from perdure_workers.dead_letters.keeper import DeadLetterKeeper
from perdure_workers.workflows.dead_letter import DeadLetterWorkflow
from tests.cli.typed import Perdure, Said
from tests.control.factory.workflows import FAIL, HEALED, FailWorkflow
from tests.temporal_server import cpu_worker, dev_server

module_loop = pytest.mark.asyncio(loop_scope="module")
_numbers = itertools.count(1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[Client]:
    async with dev_server() as client, cpu_worker(client, [FailWorkflow, DeadLetterWorkflow], FAIL.activities):
        yield client


@pytest.fixture
def address(client: Client) -> str:
    return client.service_client.config.target_host


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await holds():  # noqa: ASYNC110 - a server is asked
            await asyncio.sleep(0.05)


async def failed(client: Client) -> str:
    """The id of work that has failed for good, and is on the list."""
    id_ = f"work-{next(_numbers)}"
    started = await start_workflow(client, "fail", {"what": id_}, id_, registry=Registry({"fail": FAIL}))
    with pytest.raises(WorkflowFailureError):
        await started.handle.result()
    await listed(client, id_, there=True)
    return id_


async def listed(client: Client, id_: str, *, there: bool) -> None:
    keeper = DeadLetterKeeper(lambda: client)

    async def holds() -> bool:
        await keeper.look()
        return (id_ in {entry.letter.id for entry in await entries(client)}) is there

    await until(holds)


@pytest.mark.temporal
@module_loop
async def test_work_that_failed_is_listed_shown_tried_again_and_gone_when_it_is_done(
    client: Client, perdure: Perdure, address: str
) -> None:
    id_ = await failed(client)

    table = await perdure("dead-letters", "list", TEMPORAL_ADDRESS=address)
    told = await perdure("dead-letters", "show", id_, "--address", address)
    document = json.loads((await perdure("dead-letters", "show", id_, "-o", "json", "--address", address)).out)

    (row,) = [line for line in table.out.splitlines() if id_ in line]
    assert row.split()[:2] == ["fail", id_]
    assert row.endswith(f"no {id_} today")
    assert f"Error:     no {id_} today (NotToday)" in told.out.splitlines()
    assert told.out.endswith(f"Input:\n  what: {id_}\n  waits: false\n  waits_when_healed: false\n")
    assert (document["id"], document["state"], document["hasHistory"]) == (id_, "waiting", True)
    assert document["input"]["what"] == id_

    HEALED.add(id_)
    again = await perdure("dead-letters", "retry", id_, "--address", address)

    assert (again.status, again.err) == (0, "")
    assert again.out.startswith(f"{id_} is tried again as run ")
    await listed(client, id_, there=False)


@pytest.mark.temporal
@module_loop
async def test_what_is_dropped_is_gone_and_a_typo_drops_nothing(client: Client, perdure: Perdure, address: str) -> None:
    id_ = await failed(client)

    typo = await perdure("dead-letters", "drop", "-y", id_, f"{id_}x", "--address", address)
    asked = await perdure("dead-letters", "drop", id_, "--address", address, given="n\n")
    await listed(client, id_, there=True)
    dropped = await perdure("dead-letters", "drop", "-y", id_, "--address", address)

    assert (typo.status, typo.out) == (3, "")
    assert typo.err == f'Error: there is no dead letter "{id_}x"; did you mean "{id_}"?\n'
    assert (asked.status, asked.out) == (1, "")
    assert (dropped.status, dropped.out) == (0, f"{id_} is dropped.\n")
    await listed(client, id_, there=False)


@pytest.mark.temporal
@module_loop
async def test_all_that_waits_is_tried_again_at_once(client: Client, perdure: Perdure, address: str) -> None:
    ids = {await failed(client), await failed(client)}
    HEALED.update(ids)

    again = await perdure("dead-letters", "retry", "--all", "--address", address)

    assert {line.split()[0] for line in again.out.splitlines()} >= ids
    for id_ in ids:
        await listed(client, id_, there=False)


@pytest.mark.parametrize("arguments", [["retry"], ["drop", "-y"], ["retry", "a", "--all"]], ids=" ".join)
async def test_ids_or_all_are_expected_and_not_both(perdure: Perdure, arguments: list[str]) -> None:
    said = await perdure("dead-letters", *arguments, "--address", "127.0.0.1:1")

    assert said.status == 2
    assert "expected ids, or --all" in said.err


async def test_a_temporal_that_is_not_there_is_told(perdure: Perdure) -> None:
    said = await perdure("dead-letters", "list", "--address", "127.0.0.1:1")

    assert said == Said(
        3,
        "",
        "Error: Temporal at 127.0.0.1:1 cannot be reached (Connection refused); "
        "give --address, or set TEMPORAL_ADDRESS\n",
    )


FAILED_AT = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
LETTER = DeadLetter(
    workflow="greet", type="Greet", id="a b", run_id="r", queue="q", input_digest="d", error="no", failed_at=FAILED_AT
)


def lines(**how: Any) -> dict[str, str]:
    """The story of an entry, by the head of each line."""
    entry = Entry(LETTER.model_copy(update=how.pop("letter", {})), how.pop("retried", None))
    found = Found(entry, **{"given": {}, "has_history": True, "temporal_namespace": "n/s", **how})
    story = letters.story(found).splitlines()
    return {head: rest.strip() for head, _, rest in (line.partition(":") for line in story)}


def test_the_story_says_where_the_history_is() -> None:
    assert lines()["History"] == "temporal workflow show --namespace n/s --workflow-id 'a b' --run-id r"
    assert lines(ui="http://ui/")["History"] == "http://ui/namespaces/n%2Fs/workflows/a%20b/r/history"
    assert lines(has_history=False)["History"] == "Temporal has forgotten that of run r; its retention is over"


def test_the_story_says_who_has_it_tried_again() -> None:
    retried = Retried(run_id="r2", at=FAILED_AT, by="ada@x")

    assert lines()["State"] == "waits for somebody"
    assert lines(retried=retried)["State"] == "tried again by ada@x at 2026-11-23 08:00:00 UTC, as run r2"


def test_the_table_has_a_line_for_each_however_long_its_error() -> None:
    console = Console(width=300)
    there = [Entry(LETTER.model_copy(update={"error": "x\ny" * 200})), Entry(LETTER, Retried(run_id="2", at=FAILED_AT))]

    with console.capture() as capture:
        console.print(letters.table(there, FAILED_AT + timedelta(hours=3)))

    _, first, second = capture.get().splitlines()
    assert first.split()[:7] == ["greet", "a", "b", "3h", "ago", "1", "waiting"]
    assert second.split() == ["greet", "a", "b", "3h", "ago", "1", "retrying", "no"]
