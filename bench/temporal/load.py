"""The load: workflows of TrainingJobs, started as the operator starts them, and what they cost until they are done."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy

from bench.cluster import story
from bench.cluster.errors import BenchError
from bench.cluster.usage import Usage
from bench.temporal import processes
from bench.temporal.results import WORKER, Held, Plan, Run
from bench.temporal.servers import Served
from bench.temporal.worker import HEARTBEATS, HELD
from perdure_api import names
from perdure_api.spec import TrainingJobSpec
from perdure_api.workflow import MEMO_TRAINING_JOB, JobRef, TrainingInput

STARTS_AT_ONCE: Final = 32
"""As many as the other benchmarks create objects at once."""
STORIES: Final = 20
WARM: Final = 10
"""Before anything is counted: what is loaded with the first workflow, and with the first query, is loaded by then."""
IDLE_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 0.25
SAMPLE_SECONDS: Final = 0.5
SETTLED_SECONDS: Final = 1.0
"""After the last end: what a server does about it later (visibility, timers) is done, and belongs to the workflows."""
LEAST_SECONDS: Final = 60.0
SECONDS_PER_WORKFLOW: Final = 0.5
LATE_SECONDS: Final = 45.0
"""A heartbeat that is older than twice the time between two did not come."""
SPEC: Final = TrainingJobSpec.from_wire({"trainer": {"image": "bench/nothing:1", "command": ["true"]}})
_ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Bench:
    """A Temporal with a worker."""

    served: Served
    worker: int
    """Its pid."""

    @property
    def client(self) -> Client:
        """Of that Temporal."""
        return self.served.client

    def used(self) -> dict[str, Usage]:
        """CPU time and memory of each of PARTS that there is.

        Raises:
            BenchError: one of them has ended.
        """
        try:
            return {part: processes.used(pid) for part, pid in (*self.served.parts.items(), (WORKER, self.worker))}
        except ProcessLookupError as error:
            raise BenchError(f"a part of what is measured has ended ({error}); measure again") from error


@asynccontextmanager
async def bench(served: Served, place: Path) -> AsyncIterator[Bench]:
    """A Temporal with a worker that has done something already.

    Raises:
        BenchError: the worker does not work.
    """
    log = place / "worker.log"
    command = [sys.executable, "-m", "bench.temporal.worker", served.address]
    path = os.pathsep.join((str(_ROOT), os.environ.get("PYTHONPATH", "")))
    async with processes.running(command, log, environment={"PYTHONPATH": path}) as worker:
        made = Bench(served, worker.pid)
        try:
            await _burst(made, "warm", WARM)
            await _until_done(made, "warm", WARM)
        except BenchError as error:
            raise BenchError(
                processes.failed("the worker", worker, log) if worker.returncode else str(error)
            ) from error
        yield made


async def run(made: Bench, plan: Plan) -> Run:
    """Makes one run.

    Raises:
        BenchError: workflows did not end well, or not in time.
    """
    jobs = f"bench-{plan.workflows}-{'burst' if plan.at_once else 'single'}-{plan.turn}"
    disk = made.served.disk_bytes()
    before, own_before = made.used(), _own_cpu_seconds()
    async with _sampled(made) as samples:
        sent = await (_burst if plan.at_once else _one_by_one)(made, jobs, plan.workflows)
        await _until_done(made, jobs, plan.workflows)
        await asyncio.sleep(SETTLED_SECONDS)
        after, own_after = made.used(), _own_cpu_seconds()
    ended = await _ends(made.client, jobs)
    if sent.keys() != ended.keys():
        raise BenchError(f"found {len(ended)} ends of {len(sent)} workflows; measure again")
    return Run(
        plan=plan,
        seconds=round(max(ended.values()) - min(sent.values()), 4),
        lasted=[round(ended[id_] - began, 4) for id_, began in sent.items()],
        cpu_seconds={part: round(used.cpu_seconds - before[part].cpu_seconds, 3) for part, used in after.items()},
        memory=_memory(samples),
        disk_bytes=made.served.disk_bytes() - disk,
        story=story.mean(await _stories(made.client, list(sent))),
        own_cpu_seconds=round(own_after - own_before, 3),
    )


async def hold(made: Bench, store: str, workflows: int, minutes: float, turn: int) -> Held:
    """Keeps workflows open for some time; they end with the server.

    Raises:
        BenchError: some are not open, or do not heartbeat.
    """
    jobs = f"{HELD}-{turn}"
    before = made.used()
    idle = await _rates(made, IDLE_SECONDS)
    sent = await _burst(made, jobs, workflows)
    await _until_watched(made, list(sent))
    # What their start was is over by then.
    await asyncio.sleep(SETTLED_SECONDS)
    held = await _rates(made, 60 * minutes)
    after = made.used()
    await _require_heartbeats(made, list(sent))
    return Held(
        store=store,
        workflows=workflows,
        turn=turn,
        minutes=minutes,
        idle_cpu=idle,
        held_cpu=held,
        memory={part: {"before": before[part].bytes_, "held": used.bytes_} for part, used in after.items()},
    )


async def start(client: Client, jobs: str, number: int) -> tuple[str, float]:
    """Starts the workflow of a job as the operator does; its id, and when it was asked for (Unix seconds)."""
    job = JobRef(namespace=jobs, name=f"j{number}", uid=str(uuid.uuid4()), generation=1)
    now = time.time()
    await client.start_workflow(
        names.WORKFLOW_TYPE,
        TrainingInput(job=job, spec=SPEC),
        id=job.workflow_id,
        task_queue=names.TASK_QUEUE_CPU,
        id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        memo={MEMO_TRAINING_JOB: f"{job.namespace}/{job.name}"},
    )
    return job.workflow_id, now


async def _burst(made: Bench, jobs: str, workflows: int) -> dict[str, float]:
    """When each was asked for, by its id."""
    numbers = iter(range(workflows))
    sent: dict[str, float] = {}

    async def begin() -> None:
        for number in numbers:
            id_, now = await start(made.client, jobs, number)
            sent[id_] = now

    async with asyncio.TaskGroup() as group:
        for _ in range(min(STARTS_AT_ONCE, workflows)):
            group.create_task(begin())
    return sent


async def _one_by_one(made: Bench, jobs: str, workflows: int) -> dict[str, float]:
    sent: dict[str, float] = {}
    for number in range(workflows):
        id_, now = await start(made.client, jobs, number)
        sent[id_] = now
        async with asyncio.timeout(LEAST_SECONDS):
            await made.client.get_workflow_handle(id_).result()
    return sent


async def _until_done(made: Bench, jobs: str, workflows: int) -> None:
    """Asks how many have ended, which costs a server next to nothing, until all have."""
    seconds = max(LEAST_SECONDS, SECONDS_PER_WORKFLOW * workflows)
    deadline = time.monotonic() + seconds
    while (ended := await _count(made.client, jobs, "!= 'Running'")) < workflows:
        made.used()
        if time.monotonic() > deadline:
            raise BenchError(f"{ended} of {workflows} workflows are done after {seconds:.0f} s, expected all")
        await asyncio.sleep(LOOK_SECONDS)
    if failed := workflows - await _count(made.client, jobs, "= 'Completed'"):
        raise BenchError(f"{failed} of {workflows} workflows failed, expected none")


async def _count(client: Client, jobs: str, status: str) -> int:
    return (await client.count_workflows(f"{_of(jobs)} AND ExecutionStatus {status}")).count


def _of(jobs: str) -> str:
    return f"WorkflowId STARTS_WITH 'trainingjob/{jobs}/'"


async def _ends(client: Client, jobs: str) -> dict[str, float]:
    """When each ended, in Unix seconds of this machine's clock, which the server reads too."""
    found: dict[str, float] = {}
    execution: WorkflowExecution
    async for execution in client.list_workflows(_of(jobs)):
        if execution.close_time is not None:
            found[execution.id] = execution.close_time.timestamp()
    return found


async def _stories(client: Client, ids: Sequence[str]) -> list[story.Story]:
    """Of some of them, evenly spread."""
    some = ids[:: max(1, len(ids) // STORIES)][:STORIES]
    return [story.told((await client.get_workflow_handle(id_).fetch_history()).events) for id_ in some]


async def _rates(made: Bench, seconds: float) -> dict[str, float]:
    """CPU seconds a second."""
    before, began = made.used(), time.monotonic()
    await asyncio.sleep(seconds)
    after, lasted = made.used(), time.monotonic() - began
    return {part: round((used.cpu_seconds - before[part].cpu_seconds) / lasted, 5) for part, used in after.items()}


async def _until_watched(made: Bench, ids: Sequence[str]) -> None:
    """Until the last that were started have an activity that has told of itself."""
    deadline = time.monotonic() + max(LEAST_SECONDS, SECONDS_PER_WORKFLOW * len(ids))
    for id_ in ids[-STORIES:]:
        while await _last_heartbeat(made.client, id_) is None:
            made.used()
            if time.monotonic() > deadline:
                raise BenchError(f"{id_} is not watched in time, expected all {len(ids)} to be; measure again")
            await asyncio.sleep(LOOK_SECONDS)


async def _require_heartbeats(made: Bench, ids: Sequence[str]) -> None:
    now = datetime.now(UTC).timestamp()
    for id_ in ids[:: max(1, len(ids) // STORIES)]:
        last = await _last_heartbeat(made.client, id_)
        if last is None or now - last > LATE_SECONDS:
            raise BenchError(
                f"{id_} has not told of itself for {'ever' if last is None else f'{now - last:.0f} s'}, expected it to "
                f"every {HEARTBEATS.total_seconds():.0f} s; measure again"
            )


async def _last_heartbeat(client: Client, id_: str) -> float | None:
    """When its activity told of itself last, in Unix seconds; None: it has none, or it never has.

    Raises:
        BenchError: the workflow has ended.
    """
    told = await client.get_workflow_handle(id_).describe()
    if told.status is not WorkflowExecutionStatus.RUNNING:
        raise BenchError(f"{id_} has ended, expected it to stay open; measure again")
    times = [each.last_heartbeat_time for each in told.raw_description.pending_activities]
    return max((each.ToMicroseconds() / 1e6 for each in times if each.seconds), default=None)


def _own_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@asynccontextmanager
async def _sampled(made: Bench) -> AsyncIterator[list[Mapping[str, Usage]]]:
    """Looks at memory until the end of the block, and once more then."""
    samples: list[Mapping[str, Usage]] = [made.used()]

    async def go_on() -> None:
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            samples.append(made.used())

    task = asyncio.create_task(go_on())
    try:
        yield samples
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    samples.append(made.used())


def _memory(samples: Sequence[Mapping[str, Usage]]) -> dict[str, dict[str, int]]:
    return {
        part: {
            "before": samples[0][part].bytes_,
            "most": max(each[part].bytes_ for each in samples),
            "after": samples[-1][part].bytes_,
        }
        for part in samples[0]
    }
