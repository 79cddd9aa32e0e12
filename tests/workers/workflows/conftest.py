"""The training workflow in Temporal's time-skipping server, with a world that the test scripts.

What the activities do to a real cluster is tested elsewhere; here it is the workflow's own decisions, and time.
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
import pytest_asyncio
from temporalio import activity
from temporalio.client import Client, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.runtime import LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from perdure_api import names
from perdure_api.conditions import Reason
from perdure_api.pod import ResultDocument
from perdure_api.spec import TrainingJobSpec
from perdure_api.status import ResultStatus, TrainingJobStatus
from perdure_api.workflow import JobRef, TrainingInput
from perdure_workers.activities.refusal import refusal
from perdure_workers.attempts.outcome import Outcome
from perdure_workers.messages import (
    ActivityName,
    AttemptEnd,
    AttemptsFound,
    AwaitRoom,
    CancelTrainingJob,
    CheckInputs,
    CleanUp,
    Collected,
    CollectResult,
    CommandAttempt,
    CreateJob,
    DeleteCheckpoints,
    FindAttempts,
    FollowTrainingJob,
    FoundAttempt,
    Input,
    InputsChecked,
    Monitor,
    PublishStatus,
    SubmitTrainingJob,
)
from perdure_workers.process import WORKFLOWS, sandbox
from perdure_workers.workflows.training import TrainingWorkflow

T = TypeVar("T")
PATIENCE_SECONDS = 60
Handle = WorkflowHandle[TrainingWorkflow, TrainingJobStatus]

COMPLETED = Outcome(reason=Reason.COMPLETED, message="training completed", exit_code=0)
FAILED = Outcome(reason=Reason.FAILED, message="exit code 1", exit_code=1)
DISRUPTED = Outcome(reason=Reason.DISRUPTED, message="evicted", exit_code=137)
STORE_AWAY = ApplicationError("the store cannot be reached", type=Reason.STORE_UNAVAILABLE)
API_SERVER_AWAY = ApplicationError("no answer from the API server", type="ClusterUnavailable")
RESULT = ResultDocument(
    job_uid="u",
    attempt=1,
    step=10,
    adapter_uri="s3://b/adapter",
    metrics={"eval_loss": 2.0},
    base_metrics={"eval_loss": 3.0},
)


@dataclass
class World:
    """Answers of the world, in turn; the last one repeats. What was asked of it is kept."""

    checks: list[InputsChecked | Reason] = field(default_factory=lambda: [InputsChecked(message="read")])
    creations: list[Reason | None] = field(default_factory=lambda: [None])
    endings: list[Outcome] = field(default_factory=lambda: [COMPLETED])
    results: list[Collected | ApplicationError] = field(
        default_factory=lambda: [Collected(document=RESULT, uri="s3://b/result.json")]
    )
    purges: list[ApplicationError | None] = field(default_factory=lambda: [None])
    cleanings: list[ApplicationError | None] = field(default_factory=lambda: [None])
    publications: list[ApplicationError | None] = field(default_factory=lambda: [None])
    submissions: list[Reason | None] = field(default_factory=lambda: [None])
    """Of TrainingJobs that workflows make: refused, or not."""
    outcomes: list[ResultStatus | Reason] = field(default_factory=lambda: [ResultStatus(adapter_uri="s3://b/adapter")])
    """Of the same."""
    monitor_for_ever: bool = False
    """Until clean-up has ended the attempt."""
    lasting: set[int] = field(default_factory=set)
    """Attempts of which the same is true."""
    commands_arrive: bool = True
    found: list[FoundAttempt] = field(default_factory=list)
    """What the cluster shows of attempts."""
    about: Input | None = None
    """The input that a check refuses."""

    created_one: asyncio.Event = field(default_factory=asyncio.Event)

    published: list[PublishStatus] = field(default_factory=list)
    created: list[CreateJob] = field(default_factory=list)
    cleaned: list[CleanUp] = field(default_factory=list)
    """Those that failed too."""
    cleaned_before_attempt: dict[int, int] = field(default_factory=dict)
    commanded: list[CommandAttempt] = field(default_factory=list)
    asked_room: list[AwaitRoom] = field(default_factory=list)
    room: bool = False
    """Whether there is room for the nodes that an attempt lacks."""
    monitored: list[int] = field(default_factory=list)
    fenced: list[bool] = field(default_factory=list)
    purged: list[DeleteCheckpoints] = field(default_factory=list)
    submitted: list[SubmitTrainingJob] = field(default_factory=list)
    followed: list[FollowTrainingJob] = field(default_factory=list)
    cancelled: list[CancelTrainingJob] = field(default_factory=list)
    checked: int = 0
    _ended: set[int | None] = field(default_factory=set)

    @property
    def phases(self) -> list[str]:
        return [str(each.status.phase) for each in self.published if each.status.phase and not each.notes_only]

    def activities(self) -> list[Callable[..., Awaitable[object]]]:
        @activity.defn(name=ActivityName.CHECK_INPUTS)
        async def check(_: CheckInputs) -> InputsChecked:
            self.checked += 1
            answer = _next(self.checks)
            if isinstance(answer, Reason):
                raise refusal(answer, f"told as {answer}", self.about)
            return answer

        @activity.defn(name=ActivityName.CREATE_TRAINING_JOB)
        async def create(request: CreateJob) -> None:
            problem = _next(self.creations)
            if problem is not None:
                raise refusal(problem, f"told as {problem}")
            self.created.append(request)
            self.cleaned_before_attempt[request.attempt] = len(self.cleaned)
            self.created_one.set()

        @activity.defn(name=ActivityName.MONITOR_TRAINING)
        async def monitor(request: Monitor) -> AttemptEnd:
            self.monitored.append(request.attempt)
            self.fenced.append(request.fenced)
            lasts = request.attempt in self.lasting
            while (lasts or self.monitor_for_ever) and request.attempt not in self._ended:
                activity.heartbeat()
                await asyncio.sleep(0.05)
            return AttemptEnd(outcome=_next(self.endings), from_step=0, to_step=10)

        @activity.defn(name=ActivityName.COLLECT_RESULT)
        async def collect(_: CollectResult) -> Collected:
            return _raised(_next(self.results))

        @activity.defn(name=ActivityName.PUBLISH_STATUS)
        async def publish(request: PublishStatus) -> None:
            _raised(_next(self.publications))
            self.published.append(request)

        return [check, create, monitor, collect, publish, *self._interventions(), *self._training_jobs()]

    def _interventions(self) -> list[Callable[..., Awaitable[object]]]:
        @activity.defn(name=ActivityName.CLEANUP_RESOURCES)
        async def clean_up(request: CleanUp) -> None:
            self.cleaned.append(request)
            _raised(_next(self.cleanings))
            # What is there already may be ended before anybody looks at it.
            if request.attempt in self.monitored or request.attempt in {each.number for each in self.found}:
                self._ended.add(request.attempt)

        @activity.defn(name=ActivityName.COMMAND_ATTEMPT)
        async def command(request: CommandAttempt) -> bool:
            self.commanded.append(request)
            return self.commands_arrive

        @activity.defn(name=ActivityName.AWAIT_ROOM)
        async def await_room(request: AwaitRoom) -> None:
            self.asked_room.append(request)
            while not self.room:
                activity.heartbeat()
                await asyncio.sleep(0.05)

        @activity.defn(name=ActivityName.DELETE_CHECKPOINTS)
        async def purge(request: DeleteCheckpoints) -> None:
            self.purged.append(request)
            _raised(_next(self.purges))

        @activity.defn(name=ActivityName.FIND_ATTEMPTS)
        async def find(_: FindAttempts) -> AttemptsFound:
            return AttemptsFound(attempts=self.found)

        return [clean_up, command, await_room, purge, find]

    def _training_jobs(self) -> list[Callable[..., Awaitable[object]]]:
        @activity.defn(name=ActivityName.SUBMIT_TRAINING_JOB)
        async def submit(request: SubmitTrainingJob) -> JobRef:
            self.submitted.append(request)
            if (problem := _next(self.submissions)) is not None:
                raise refusal(problem, f"told as {problem}")
            return JobRef(namespace=request.namespace, name=request.name, uid="u")

        @activity.defn(name=ActivityName.FOLLOW_TRAINING_JOB)
        async def follow(request: FollowTrainingJob) -> ResultStatus:
            self.followed.append(request)
            while self.monitor_for_ever:
                activity.heartbeat()
                await asyncio.sleep(0.05)
            outcome = _next(self.outcomes)
            if isinstance(outcome, Reason):
                raise refusal(outcome, f"told as {outcome}")
            return outcome

        @activity.defn(name=ActivityName.CANCEL_TRAINING_JOB)
        async def cancel(request: CancelTrainingJob) -> None:
            self.cancelled.append(request)

        return [submit, follow, cancel]


def _next(answers: list[T]) -> T:
    return answers.pop(0) if len(answers) > 1 else answers[0]


def _raised(answer: T | ApplicationError) -> T:
    if isinstance(answer, ApplicationError):
        raise answer.with_traceback(None)  # raised again and again, one exception's traceback only grows
    return answer


async def until(holds: Callable[[], bool]) -> None:
    """Waits for something that the world is told."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():  # noqa: ASYNC110 - by several activities
            await asyncio.sleep(0.01)


OWN = TrainingJobSpec.from_wire({"trainer": {"image": "i", "command": ["true"]}})
BUILT_IN = TrainingJobSpec.from_wire(
    {
        "model": {"uri": "s3://b/model"},
        "dataset": {"uri": "s3://b/data.jsonl"},
        "output": {"uri": "s3://b/out"},
        "training": {"maxSteps": 10},
        "retry": {"maxAttempts": 3, "initialIntervalSeconds": 100},
    }
)

Start = Callable[..., Awaitable[Handle]]


@pytest.fixture(scope="session")
def runtime() -> Runtime:
    """The SDK's core, which tells errors only: it warns of the test server's age with every worker."""
    errors = LoggingConfig(filter=TelemetryFilter(core_level="ERROR", other_level="ERROR"))
    return Runtime(telemetry=TelemetryConfig(logging=errors))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def environment(runtime: Runtime) -> AsyncIterator[WorkflowEnvironment]:
    server = Path(sys.executable).with_name("temporal-test-server")
    assert server.exists(), "temporal-test-server is missing; install the development dependencies"
    async with await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=str(server), data_converter=pydantic_data_converter, runtime=runtime
    ) as environment:
        yield environment


@pytest.fixture
def world() -> World:
    return World()


@asynccontextmanager
async def working(client: Client, world: World) -> AsyncIterator[None]:
    """Something that carries workflows out, in a world, until the end of the block."""
    cpu = Worker(
        client,
        task_queue=names.TASK_QUEUE_CPU,
        workflows=WORKFLOWS,
        activities=world.activities(),
        workflow_runner=sandbox(),
    )
    watch = Worker(client, task_queue=names.TASK_QUEUE_WATCH, activities=world.activities())
    async with cpu, watch:
        yield


async def begin(
    client: Client,
    spec: TrainingJobSpec,
    carried: TrainingJobStatus | None = None,
    kueue_queue: str = "",
    recalled: TrainingJobStatus | None = None,
) -> Handle:
    """Starts the workflow of a new job."""
    job = JobRef(namespace="ns", name="job", uid=str(uuid.uuid4()), generation=1)
    handle: Handle = await client.start_workflow(
        TrainingWorkflow.run,
        TrainingInput(job=job, spec=spec, carried=carried, kueue_queue=kueue_queue, recalled=recalled),
        id=job.workflow_id,
        task_queue=names.TASK_QUEUE_CPU,
    )
    return handle


@pytest_asyncio.fixture(loop_scope="module")
async def start(environment: WorkflowEnvironment, world: World) -> AsyncIterator[Start]:
    """Starts the workflow of a spec; the worker runs while the test does."""
    async with working(environment.client, world):
        yield partial(begin, environment.client)
