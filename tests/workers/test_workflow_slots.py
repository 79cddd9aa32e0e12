"""Slots of workflow tasks: those that are known go on while as many as may begin."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, cast

import pytest
from temporalio import activity
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import (
    FixedSizeSlotSupplier,
    SlotPermit,
    SlotReleaseContext,
    SlotReserveContext,
    Worker,
    WorkerTuner,
)

from perdure_workers.process import sandbox
from perdure_workers.workflow_slots import WorkflowSlots
from tests.temporal_server import PATIENCE_SECONDS, dev_server
from tests.workers.slow_starts import SlowStartWorkflow

SLOTS = 8
OF_NEW = 4
QUEUE = "slow-starts"


@dataclass
class Poll:
    """So much of what the SDK says of a poll as counts."""

    is_sticky: bool


NEW, KNOWN = (cast("SlotReserveContext", Poll(is_sticky)) for is_sticky in (False, True))


async def started(client: Client, workflow_id: str) -> WorkflowHandle[Any, Any]:
    return await client.start_workflow("SlowStartWorkflow", id=workflow_id, task_queue=QUEUE)


def taken(slots: WorkflowSlots, poll: SlotReserveContext) -> SlotPermit | None:
    return slots.try_reserve_slot(poll)


def test_half_of_the_slots_are_for_workflows_that_are_new_and_the_others_for_those_that_are_known() -> None:
    slots = WorkflowSlots(SLOTS)

    assert [taken(slots, NEW) is not None for _ in range(OF_NEW + 1)] == [True] * OF_NEW + [False]
    assert [taken(slots, KNOWN) is not None for _ in range(SLOTS - OF_NEW + 1)] == [True] * (SLOTS - OF_NEW) + [False]


def test_those_that_are_known_may_take_all_slots() -> None:
    slots = WorkflowSlots(SLOTS)

    assert all(taken(slots, KNOWN) for _ in range(SLOTS))
    assert taken(slots, NEW) is None


def test_of_the_fewest_slots_one_is_for_each() -> None:
    slots = WorkflowSlots(2)

    assert taken(slots, NEW)
    assert taken(slots, NEW) is None
    assert taken(slots, KNOWN)


async def test_who_finds_none_waits_until_one_is_given_back_which_may_be_given_back_twice() -> None:
    slots = WorkflowSlots(SLOTS)
    first, *_ = (taken(slots, NEW) for _ in range(OF_NEW))
    waiting = asyncio.create_task(slots.reserve_slot(NEW))
    await asyncio.sleep(0)
    assert not waiting.done()
    assert first

    slots.release_slot(SlotReleaseContext(slot_info=None, permit=first))
    slots.release_slot(SlotReleaseContext(slot_info=None, permit=first))

    assert await asyncio.wait_for(waiting, PATIENCE_SECONDS)
    assert taken(slots, NEW) is None


@pytest.mark.temporal
async def test_workflows_end_while_more_begin_than_there_are_slots() -> None:
    begun, open_to = asyncio.Semaphore(0), asyncio.Event()

    @activity.defn
    async def begin() -> None:
        begun.release()
        if str(activity.info().workflow_id).startswith("new"):
            await open_to.wait()

    async with dev_server() as client:
        worker = Worker(
            client,
            task_queue=QUEUE,
            workflows=[SlowStartWorkflow],
            activities=[begin],
            workflow_runner=sandbox(),
            tuner=WorkerTuner.create_composite(
                workflow_supplier=WorkflowSlots(SLOTS),
                activity_supplier=FixedSizeSlotSupplier(1),
                local_activity_supplier=FixedSizeSlotSupplier(2 * SLOTS),
                nexus_supplier=FixedSizeSlotSupplier(1),
            ),
        )
        async with worker:
            known = [await started(client, f"known-{number}") for number in range(2 * SLOTS)]
            for _ in known:
                await asyncio.wait_for(begun.acquire(), PATIENCE_SECONDS)
            new = [await started(client, f"new-{number}") for number in range(2 * SLOTS)]

            try:
                # One after another: each slot that becomes free is one that a workflow that begins waits for too.
                for handle in known:
                    await handle.signal("end")
                    await asyncio.wait_for(handle.result(), PATIENCE_SECONDS)
            finally:
                open_to.set()

            for handle in new:
                await handle.signal("end")
            await asyncio.wait_for(asyncio.gather(*(handle.result() for handle in new)), PATIENCE_SECONDS)
