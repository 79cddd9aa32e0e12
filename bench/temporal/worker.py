"""One worker process whose activities answer at once: `python -m bench.temporal.worker ADDRESS`.

The workflow is the one that carries TrainingJobs through, in its sandbox, on the task queues of a real worker and with
as many slots. What it asks of Kubernetes is answered here without asking anybody: so what is left is Temporal.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import suppress
from datetime import timedelta
from typing import Final

import uvloop
from temporalio import activity
from temporalio.worker import Worker

from bench.temporal.servers import NAMESPACE
from perdure_api import names
from perdure_api.conditions import Reason
from perdure_control import temporal
from perdure_control.logs import configure_logs
from perdure_workers.activities.monitoring import LOOK_SECONDS
from perdure_workers.attempts.outcome import Outcome
from perdure_workers.log_context import LogContext
from perdure_workers.messages import ActivityName, AttemptEnd, CreateJob, Monitor, MonitorNote, PublishStatus
from perdure_workers.process import WORKFLOWS, sandbox
from perdure_workers.settings import WorkerSettings

HELD: Final = "held"
"""Jobs whose namespace begins so never end."""
HEARTBEATS: Final = timedelta(seconds=20)
"""As a worker has it: the SDK lets no more of them through."""
_END: Final = AttemptEnd(outcome=Outcome(reason=Reason.COMPLETED, message="training completed", exit_code=0))


@activity.defn(name=ActivityName.CREATE_TRAINING_JOB)
async def create_training_job(_: CreateJob) -> None:
    """There is no cluster."""


@activity.defn(name=ActivityName.PUBLISH_STATUS)
async def publish_status(_: PublishStatus) -> None:
    """There is no object."""


@activity.defn(name=ActivityName.MONITOR_TRAINING)
async def monitor_training(request: Monitor) -> AttemptEnd:
    """Looks, as a monitor does, and tells Temporal that it has; then the attempt has ended, or never does."""
    activity.heartbeat(MonitorNote())
    while request.job.namespace.startswith(HELD):
        await asyncio.sleep(LOOK_SECONDS)
        activity.heartbeat(MonitorNote(ran=True))
    return _END


async def work(address: str) -> None:
    """Carries workflows out until it is cancelled."""
    settings = WorkerSettings()
    configure_logs(settings.log_level)
    client = await temporal.connect(address, NAMESPACE, identity="bench-worker")
    cpu = Worker(
        client,
        task_queue=names.TASK_QUEUE_CPU,
        workflows=WORKFLOWS,
        activities=[create_training_job, publish_status],
        interceptors=[LogContext()],
        workflow_runner=sandbox(),
        max_concurrent_activities=settings.slots,
        max_concurrent_workflow_tasks=max(2, settings.slots),
        max_concurrent_local_activities=4 * settings.slots,
    )
    watch = Worker(
        client,
        task_queue=names.TASK_QUEUE_WATCH,
        activities=[monitor_training],
        interceptors=[LogContext()],
        max_concurrent_activities=settings.watch_slots,
        default_heartbeat_throttle_interval=HEARTBEATS,
        max_heartbeat_throttle_interval=HEARTBEATS,
    )
    async with cpu, watch:
        await asyncio.Future()


async def _until_stopped(address: str) -> None:
    task = asyncio.ensure_future(work(address))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with suppress(asyncio.CancelledError):
        await task


if __name__ == "__main__":
    uvloop.run(_until_stopped(sys.argv[1]))
