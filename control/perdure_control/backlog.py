"""How much waits in a task queue, as Temporal tells it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from temporalio.api.enums.v1 import TaskQueueKind, TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client

WORKFLOW: Final = TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW
ACTIVITY: Final = TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY


@dataclass(frozen=True)
class Backlog:
    """Of one task queue, for tasks of one type: all versions, partitions and priorities."""

    count: int
    """Tasks that wait. Temporal counts anew every 5 s, and approximately."""
    askers: frozenset[str]
    """Identities of workers that asked for tasks lately (within minutes)."""


async def read_backlog(
    client: Client, temporal_namespace: str, queue: str, type_: TaskQueueType.ValueType, limit: timedelta
) -> Backlog:
    """What Temporal tells now.

    Raises:
        RPCError: no answer within the limit, or no such Temporal namespace.
    """
    request = DescribeTaskQueueRequest(
        namespace=temporal_namespace,
        task_queue=TaskQueue(name=queue, kind=TaskQueueKind.TASK_QUEUE_KIND_NORMAL),
        task_queue_type=type_,
        report_stats=True,
    )
    answer = await client.workflow_service.describe_task_queue(request, retry=False, timeout=limit)
    return Backlog(answer.stats.approximate_backlog_count, frozenset(poller.identity for poller in answer.pollers))
