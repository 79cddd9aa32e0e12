"""Whether Temporal is back is found out however looks and calls fall together."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from perdure_api.workflow import JobRef
from perdure_operator.workflows import TemporalUnavailable, Workflows

JOB = JobRef(namespace="ns", name="job", uid="uid", generation=1)


class GoingAway:
    """A Temporal that takes its time to answer one question, and refuses another meanwhile."""

    namespace = "default"

    def __init__(self) -> None:
        self.workflow_service = self
        self.asked = asyncio.Event()
        self.answers = asyncio.Event()

    async def describe_namespace(self, *_: Any, **__: Any) -> None:
        self.asked.set()
        await self.answers.wait()

    def get_workflow_handle(self, _: str) -> GoingAway:
        return self

    async def cancel(self, **_: Any) -> None:
        raise RPCError("tcp connect error", RPCStatusCode.UNAVAILABLE, b"")


async def test_a_look_that_began_before_temporal_went_away_tells_of_its_return() -> None:
    temporal = GoingAway()
    workflows = Workflows(cast("Client", temporal))
    back = asyncio.Event()
    probing = asyncio.create_task(workflows.probe(back.set))
    await temporal.asked.wait()
    with pytest.raises(TemporalUnavailable):
        await workflows.cancel(JOB)
    assert workflows.problem == "unavailable: tcp connect error"

    temporal.answers.set()
    async with asyncio.timeout(60):
        await back.wait()

    assert workflows.problem is None
    probing.cancel()
