"""Apart from the others: the server stops skipping time after a workflow was cancelled beside a running activity."""

from __future__ import annotations

import asyncio
import gc

import pytest
from temporalio.client import WorkflowFailureError

from perdure_api.conditions import ConditionStatus, ConditionType, Reason
from tests.workers.workflows.conftest import API_SERVER_AWAY, OWN, Start, World

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_cancelled_job_cleans_up_and_says_so(
    start: Start, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.monitor_for_ever = True
    world.cleanings = [API_SERVER_AWAY, None]
    handle = await start(OWN)
    async with asyncio.timeout(60):
        await world.created_one.wait()

    await handle.cancel()
    with pytest.raises(WorkflowFailureError):
        await handle.result()

    gc.collect()  # what nobody looked at is complained of when it is thrown away
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []
    assert [each.attempt for each in world.cleaned] == [None, None], "what fails is tried again, cancelled or not"
    assert world.published[-1].status.reason == Reason.CANCELLED
    (attempt,) = world.published[-1].status.attempts
    assert (attempt.reason, attempt.end_time) == (Reason.CANCELLED, world.published[-1].status.completion_time)
    succeeded = world.published[-1].status.condition(ConditionType.SUCCEEDED)
    assert succeeded
    assert succeeded.status is ConditionStatus.FALSE
