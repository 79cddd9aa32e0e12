"""A real Temporal, real operator processes, and a workflow that stands in for the workers'."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pytest
from temporalio import workflow
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.runtime import LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from perdure_api import names
from perdure_workers.workflows.purge import PurgeWorkflow
from tests.temporal_server import PATIENCE_SECONDS, TemporalServer, unused_port, wait_until
from tests.workers.workflows.conftest import World

if TYPE_CHECKING:
    from tests.conftest import ApiServer

CONDITIONS = list[dict[str, Any]]

# An operator as it is, but for its patience: minutes of waiting prove no more than these.
OPERATE = """
import asyncio, os, uvloop
from perdure_control.logs import configure_logs
from perdure_operator.drift import Rhythm
from perdure_operator.handlers import quiet_kopf
from perdure_operator.main import operate
from perdure_operator.services import Patience
from perdure_operator.settings import settings_from
configure_logs("info")
quiet_kopf()
rhythm = Rhythm(workflows_seconds=0.5, fresh_seconds=1, watch_seconds=1, settle_seconds=1)
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(operate(settings_from(os.environ), patience=Patience(lost_seconds=0.5), rhythm=rhythm))
"""


Answer = TypeVar("Answer")


@pytest.fixture
def free_port() -> int:
    return unused_port()


@pytest.fixture(scope="session")
def until() -> Callable[..., Any]:
    """Waits for the first answer that is not empty."""
    return wait_until


@pytest.fixture(scope="module")
def temporal_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TemporalServer]:
    """One Temporal for a module; who stops it starts it again."""
    server = TemporalServer(tmp_path_factory.mktemp("temporal"))
    server.start()
    yield server
    server.stop()


@workflow.defn(name=names.WORKFLOW_TYPE)
class StandIn:
    """Does nothing until it is told to end; when cancelled, cleans up for as long as it is told to."""

    def __init__(self) -> None:
        self._result: dict[str, Any] | None = None
        self._ended = False
        self._clean = True

    @workflow.run
    async def run(self, request: dict[str, Any]) -> dict[str, Any] | None:
        try:
            await workflow.wait_condition(lambda: self._ended)
        except asyncio.CancelledError:
            await workflow.wait_condition(lambda: self._clean)
            raise
        return self._result

    @workflow.signal
    def end(self, result: dict[str, Any] | None) -> None:
        self._ended = True
        self._result = result

    @workflow.signal
    def clean(self, clean: bool) -> None:  # noqa: FBT001
        self._clean = clean


class Temporal:
    """A client of a server, on a loop in a thread of its own: the tests themselves wait for programs."""

    def __init__(self, address: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._client = self._do(Client.connect(address, data_converter=pydantic_data_converter))

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def workflows(self, namespace: str) -> dict[str, str]:
        """Status by id of the workflows of a Kubernetes namespace."""

        async def listed() -> dict[str, str]:
            return {
                execution.id: execution.status.name
                async for execution in self._client.list_workflows(f"WorkflowType = '{names.WORKFLOW_TYPE}'")
                if execution.id.startswith(f"trainingjob/{namespace}/") and execution.status
            }

        return self._do(listed())

    def status(self, id_: str) -> str | None:
        """RUNNING, COMPLETED, …; None when there is none of this id."""

        async def described() -> str | None:
            try:
                description = await self._client.get_workflow_handle(id_).describe()
            except RPCError:
                return None
            return description.status.name if description.status else None

        return self._do(described())

    def cancel_requested(self, id_: str) -> bool:
        """Whether the workflow was asked to end."""

        async def found() -> bool:
            history = await self._client.get_workflow_handle(id_).fetch_history()
            return any(
                event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED for event in history.events
            )

        return self._do(found())

    def signals(self, id_: str) -> list[str]:
        """Names of the signals that the workflow was sent, in their order."""

        async def found() -> list[str]:
            history = await self._client.get_workflow_handle(id_).fetch_history()
            sent = [event.workflow_execution_signaled_event_attributes.signal_name for event in history.events]
            return [name for name in sent if name]

        return self._do(found())

    def signal(self, id_: str, name: str, argument: object) -> None:
        self._do(self._client.get_workflow_handle(id_).signal(name, argument))

    def terminate(self, id_: str) -> None:
        self._do(self._client.get_workflow_handle(id_).terminate(reason="by a test"))

    def delete(self, id_: str) -> None:
        """Makes the server forget that there ever was such a workflow."""
        request = DeleteWorkflowExecutionRequest(
            namespace="default", workflow_execution=WorkflowExecution(workflow_id=id_)
        )
        self._do(self._client.workflow_service.delete_workflow_execution(request))

    @contextmanager
    def worker(self, world: World | None = None) -> Iterator[None]:
        """Something that carries the stand-in's workflows out, and deletes checkpoints in a scripted world."""
        stop = asyncio.Event()

        async def work() -> None:
            async with Worker(
                self._client,
                task_queue=names.TASK_QUEUE_CPU,
                workflows=[StandIn, PurgeWorkflow],
                activities=(world or World()).activities(),
                workflow_runner=UnsandboxedWorkflowRunner(),
            ):
                await stop.wait()

        done = asyncio.run_coroutine_threadsafe(work(), self._loop)
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(stop.set)
            done.result(PATIENCE_SECONDS)

    def _do(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_SECONDS)


@pytest.fixture(scope="module")
def temporal(temporal_server: TemporalServer) -> Iterator[Temporal]:
    client = Temporal(temporal_server.address)
    yield client
    client.close()


@dataclass
class OperatorProcess:
    """An operator, as a process of its own."""

    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    port: int = 0

    def start(self) -> None:
        self.port = unused_port()
        environment = {**os.environ, **self.environment, "PERDURE_HTTP_PORT": str(self.port)}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", OPERATE], env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        wait_until(lambda: self.get("/readyz")[0] == 200, f"the operator is ready (log: {self.log})")

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        return self._end(signal.SIGTERM)

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of a page; 0 while there is no answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def events(self) -> list[dict[str, Any]]:
        """What it has logged."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def _end(self, number: signal.Signals) -> int:
        if self.process is None:
            return 0
        self.process.send_signal(number)
        status = self.process.wait(timeout=15)
        self.process = None
        return status


class Operate(Protocol):
    """Starts an operator; it is ended with the test, unless the test has done so."""

    def __call__(self, kubeconfig: Path, **environment: str) -> OperatorProcess: ...


@pytest.fixture(scope="module")
def operate(temporal_server: TemporalServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operate]:
    started: list[OperatorProcess] = []

    def start(kubeconfig: Path, **environment: str) -> OperatorProcess:
        log = tmp_path_factory.mktemp("operator") / "log"
        common = {
            "KUBECONFIG": str(kubeconfig),
            "PERDURE_TEMPORAL_ADDRESS": temporal_server.address,
            "PERDURE_NAMESPACE": "perdure",
        }
        operator = OperatorProcess({**common, **environment}, log)
        started.append(operator)
        operator.start()
        return operator

    yield start
    for operator in started:
        operator.kill()


_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def runtime() -> Runtime:
    """The SDK's core, which tells errors only."""
    errors = LoggingConfig(filter=TelemetryFilter(core_level="ERROR", other_level="ERROR"))
    return Runtime(telemetry=TelemetryConfig(logging=errors))


@dataclass(frozen=True)
class Jobs:
    """TrainingJobs of one namespace, as their users handle them."""

    kubectl: Callable[..., str]
    namespace: str
    spec: dict[str, Any] = field(default_factory=lambda: {"trainer": {"image": "x", "command": ["true"]}})

    def create(self, **spec: Any) -> str:
        """The name of a new one."""
        (name,) = self.create_many(1, **spec)
        return name

    def create_many(self, count: int, **spec: Any) -> list[str]:
        """The names of so many new ones, made at once."""
        chosen = [f"job-{next(_numbers)}" for _ in range(count)]
        documents = [self.document(name, **spec) for name in chosen]
        self.kubectl("create", "-f", "-", document={"apiVersion": "v1", "kind": "List", "items": documents})
        return chosen

    def document(self, name: str, **spec: Any) -> dict[str, Any]:
        return {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {**self.spec, **spec},
        }

    def get(self, name: str) -> dict[str, Any] | None:
        text = self.kubectl("get", names.PLURAL, name, "-n", self.namespace, "-o", "json", "--ignore-not-found")
        document: dict[str, Any] | None = json.loads(text) if text else None
        return document

    def delete(self, name: str) -> None:
        self.kubectl("delete", names.PLURAL, name, "-n", self.namespace, "--wait=false")

    def annotate(self, name: str, annotation: str) -> None:
        self.kubectl("annotate", names.PLURAL, name, "-n", self.namespace, annotation)

    def set_status(self, name: str, **status: Any) -> None:
        """What the workflow would publish."""
        self.kubectl(
            "apply", "--server-side", "--subresource=status", "--force-conflicts",
            "--field-manager", names.FIELD_MANAGER_WORKFLOW, "-f", "-",
            document={**self.document(name), "status": status},
        )  # fmt: skip

    def workflow_id(self, name: str) -> str:
        document = self.get(name)
        assert document, f"{name} is gone"
        return names.workflow_id(self.namespace, name, document["metadata"]["uid"])

    def condition(self, name: str, type_: str) -> dict[str, Any] | None:
        document = self.get(name)
        conditions: CONDITIONS = document["status"].get("conditions", []) if document else []
        return next((condition for condition in conditions if condition["type"] == type_), None)

    def reason(self, name: str, type_: str = "Reconciling") -> str | None:
        condition = self.condition(name, type_)
        return condition["reason"] if condition else None

    def events(self, name: str) -> dict[str, str]:
        """Message by reason."""
        listing = json.loads(self.kubectl("get", "events", "-n", self.namespace, "-o", "json"))
        mine = [event for event in listing["items"] if event["involvedObject"]["name"] == name]
        return {event["reason"]: event["message"] for event in mine}


@pytest.fixture
def namespace(api_server: ApiServer) -> str:
    """A namespace of the test's own."""
    name = f"test-{next(_numbers)}"
    api_server.kubectl("create", "namespace", name)
    return name


@pytest.fixture
def jobs(api_server: ApiServer, namespace: str) -> Jobs:
    return Jobs(api_server.kubectl, namespace)
