"""Tasks of activities that have a breaker go to a task queue of their own: a worker cannot ask a queue for one type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from temporalio import workflow
from temporalio.worker import (
    Interceptor,
    StartActivityInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)


class Routing(Interceptor):
    """For the worker that runs the workflows."""

    def __init__(self, queues: Mapping[str, str]) -> None:
        """Routes nothing else.

        Args:
            queues: Task queues by type of activity.
        """
        self._queues = dict(queues)

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:  # noqa: A002, ARG002 - Temporal's name
        """See the base class."""
        queues = self._queues

        class Inbound(WorkflowInboundInterceptor):
            def init(self, outbound: WorkflowOutboundInterceptor) -> None:
                self.next.init(_Outbound(outbound, queues))

        return Inbound


class _Outbound(WorkflowOutboundInterceptor):
    def __init__(self, next: WorkflowOutboundInterceptor, queues: Mapping[str, str]) -> None:  # noqa: A002 - Temporal's name
        super().__init__(next)
        self._queues = queues

    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:  # noqa: A002 - Temporal's name
        # Who names a queue means it. A history whose activities went elsewhere replays: queues are not compared.
        if input.task_queue is None:
            input.task_queue = self._queues.get(input.activity)
        return super().start_activity(input)
