"""What the log lines of an activity are bound to."""

from __future__ import annotations

from typing import Any

import structlog
from temporalio.testing import ActivityEnvironment
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput

from perdure_api.workflow import JobRef
from perdure_workers.log_context import LogContext
from perdure_workers.messages import CleanUp

JOB = JobRef(namespace="ns", name="job", uid="u")


class Innermost(ActivityInboundInterceptor):
    """An activity that tells what a log line would be bound to."""

    def __init__(self) -> None: ...

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002 - Temporal's name
        return dict(structlog.contextvars.get_contextvars())


async def bound(*arguments: Any) -> dict[str, Any]:
    async def activity() -> None: ...

    call = ExecuteActivityInput(fn=activity, args=arguments, executor=None, headers={})
    interceptor = LogContext().intercept_activity(Innermost())
    fields: dict[str, Any] = await ActivityEnvironment().run(interceptor.execute_activity, call)
    return fields


async def test_an_activity_of_a_job_names_the_job_and_its_workflow() -> None:
    fields = await bound(CleanUp(job=JOB))
    assert fields == {
        "activity": "unknown",
        "trainingjob": "job",
        "namespace": "ns",
        "uid": "u",
        "workflow_id": "trainingjob/ns/job/u",
    }
    assert structlog.contextvars.get_contextvars() == {}


async def test_any_other_activity_names_its_workflow() -> None:
    assert (await bound()).keys() == {"activity", "workflow_id"}
