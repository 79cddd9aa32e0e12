"""A Temporal behind mutual TLS, whose certificates are replaced while workers and operator use it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from structlog.testing import capture_logs
from temporalio import activity, workflow
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, DescribeNamespaceResponse, GetSystemInfoResponse
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from perdure_api.workflow import JobRef
from perdure_control.credentials import CredentialFiles
from perdure_control.temporal import Connection, Place, Reachability
from perdure_operator.workflows import Standing, TemporalUnavailable, Workflows
from perdure_operator.workflows import connection as of_operator
from perdure_workers.process import connect_temporal, use_client
from tests.authority import DAY, Authority, Signed
from tests.temporal_server import dev_server

SERVERS = Authority("servers")
PATIENCE_SECONDS = 60
QUEUE = "greetings"
JOB = JobRef(namespace="ns", name="job", uid="u")


@dataclass
class Door:
    """Ends mutual TLS in front of a server, and lets in whom an authority has signed."""

    server: str
    keys: Path
    port: int = 0
    _open: asyncio.Server | None = None
    _inside: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def admit(self, clients: Authority) -> None:
        """Lets in whom this authority has signed and, from now on, nobody else; who was inside has to leave."""
        await self.shut()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=clients.certificate.decode())
        context.load_cert_chain(self.keys / "tls.crt", self.keys / "tls.key")
        context.verify_mode = ssl.CERT_REQUIRED
        context.set_alpn_protocols(["h2"])
        self._open = await asyncio.start_server(self._entered, "127.0.0.1", self.port, ssl=context)
        self.port = self._open.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        if self._open:
            self._open.close()
        for task in list(self._inside):
            task.cancel()
        await asyncio.gather(*self._inside, return_exceptions=True)

    async def _entered(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._inside.add(task)
        try:
            host, port = self.server.split(":")
            inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
            with contextlib.suppress(OSError):
                await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))
        except asyncio.CancelledError:
            writer.transport.abort()
            inner_writer.transport.abort()
        finally:
            self._inside.discard(task)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def inside() -> AsyncIterator[Client]:
    """A client behind the door."""
    async with dev_server() as client:
        yield client


@dataclass(frozen=True)
class Visitor:
    """One whom the door lets in, and what it shows."""

    door: Door
    folder: Path
    place: Place

    def shows(self, client: Signed) -> None:
        client.write(self.folder, SERVERS.certificate)


@pytest_asyncio.fixture(loop_scope="module")
async def visitor(inside: Client, tmp_path: Path) -> AsyncIterator[Visitor]:
    door = Door(inside.service_client.config.target_host, SERVERS.sign("frontend").write(tmp_path / "server"))
    clients = Authority("clients")
    await door.admit(clients)
    folder = tmp_path / "client"
    place = Place(door.address, "default", CredentialFiles(tls=True, folder=folder))
    visitor = Visitor(door, folder, place)
    visitor.shows(clients.sign("perdure"))
    yield visitor
    await door.shut()


@workflow.defn
class Greeting:
    @workflow.run
    async def run(self, name: str) -> str:
        hour = timedelta(hours=1)
        answer: str = await workflow.execute_activity("greet", name, result_type=str, start_to_close_timeout=hour)
        return answer


class Host:
    """An activity that takes as long as it is told to, and says which attempt it was."""

    def __init__(self) -> None:
        self.came = asyncio.Event()
        self.may_answer = asyncio.Event()

    @activity.defn
    async def greet(self, name: str) -> str:
        self.came.set()
        await self.may_answer.wait()
        return f"hello {name}, attempt {activity.info().attempt}"

    def worker(self, client: Client) -> Worker:
        return Worker(
            client,
            task_queue=QUEUE,
            workflows=[Greeting],
            activities=[self.greet],
            workflow_runner=UnsandboxedWorkflowRunner(),
        )


def none(_: Client) -> None:
    pytest.fail("there is no reason for a new client")


async def greeted(inside: Client) -> str:
    """What a worker says."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await inside.execute_workflow(Greeting.run, "you", id=str(uuid.uuid4()), task_queue=QUEUE)


async def until_refused(connection: Connection) -> str:
    """What is said by the first call that is not let in."""
    reachability = Reachability()
    reachability.problem = None
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not reachability.problem:
            await reachability.ask(connection.client)
    return reachability.problem


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.temporal
async def test_who_has_a_certificate_is_let_in_and_who_has_none_is_not(visitor: Visitor) -> None:
    reachability = Reachability()
    await reachability.ask(await Connection(visitor.place, identity="tests").open())
    assert reachability.problem is None

    for name in ("tls.crt", "tls.key"):
        (visitor.folder / name).unlink()
    with pytest.raises(RuntimeError, match="Failed client connect"):
        await Connection(visitor.place, identity="tests").open()


@pytest.mark.temporal
async def test_a_server_that_another_authority_has_signed_is_not_spoken_to(visitor: Visitor) -> None:
    (visitor.folder / "ca.crt").write_bytes(Authority("somebody").certificate)

    with pytest.raises(RuntimeError, match="Failed client connect"):
        await Connection(visitor.place, identity="tests").open()


@pytest.mark.temporal
async def test_the_servers_name_is_the_one_that_settings_give(visitor: Visitor) -> None:
    for name, is_its in (("frontend", True), ("somebody", False)):
        files = CredentialFiles(tls=True, folder=visitor.folder, server_name=name)
        connection = Connection(Place(visitor.door.address, "default", files), identity="tests")
        if is_its:
            await connection.open()
        else:
            with pytest.raises(RuntimeError, match="Failed client connect"):
                await connection.open()


@pytest.mark.temporal
async def test_a_worker_goes_on_with_a_new_certificate_and_what_it_had_begun_is_not_lost(
    visitor: Visitor, inside: Client
) -> None:
    connection, host = Connection(visitor.place, identity="tests"), Host()
    polling = host.worker(await connection.open())
    async with polling:
        begun = asyncio.create_task(greeted(inside))
        await host.came.wait()
        await connection.look(none)

        others = Authority("others")
        await visitor.door.admit(others)
        assert await until_refused(connection)
        host.may_answer.set()
        later = asyncio.create_task(greeted(inside))

        visitor.shows(others.sign("perdure"))
        await connection.look(lambda client: use_client([polling], client))

        assert connection.problem is None
        assert polling.client is connection.client
        assert await begun == "hello you, attempt 1"
        assert await later == "hello you, attempt 1"


@pytest.mark.temporal
async def test_the_operator_goes_on_with_a_new_certificate(visitor: Visitor) -> None:
    connection = of_operator(visitor.place)
    workflows = Workflows(await connection.open())
    assert await workflows.standing(JOB) is Standing.MISSING

    others = Authority("others")
    await visitor.door.admit(others)
    await until_refused(connection)
    with pytest.raises(TemporalUnavailable):
        await workflows.standing(JOB)

    visitor.shows(others.sign("perdure"))
    await connection.look(workflows.use)
    back = asyncio.Event()
    probe = asyncio.create_task(workflows.probe(back.set))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await back.wait()
    probe.cancel()

    assert await workflows.standing(JOB) is Standing.MISSING


@pytest.mark.temporal
async def test_new_files_that_do_not_open_leave_everything_as_it_is(visitor: Visitor) -> None:
    connection = Connection(visitor.place, identity="tests")
    client = await connection.open()

    (visitor.folder / "tls.key").write_bytes(Authority("others").sign("perdure").key)
    await connection.look(none)
    assert "is not the key of" in (connection.problem or "")

    visitor.shows(Authority("others").sign("perdure"))
    await connection.look(none)
    assert f"new credentials do not open {visitor.door.address}: Failed" in (connection.problem or "")

    assert connection.client is client
    reachability = Reachability()
    await reachability.ask(client)
    assert reachability.problem is None


@pytest.mark.temporal
async def test_a_worker_whose_credentials_do_not_open_waits_for_others(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure_workers.process._CONNECT_PAUSE_SECONDS", 0.05)
    others = Authority("others")
    await visitor.door.admit(others)

    with capture_logs() as logs:
        opening = asyncio.create_task(connect_temporal(Connection(visitor.place, identity="t"), visitor.place.address))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not logs:  # noqa: ASYNC110 - structlog tells nobody
                await asyncio.sleep(0.05)
            visitor.shows(others.sign("perdure"))
            await opening

    assert logs[0]["event"] == "temporal_unavailable"
    assert "PRIVATE KEY" not in str(logs)


async def test_an_expired_certificate_is_told(tmp_path: Path) -> None:
    clients = Authority("clients")
    files = CredentialFiles(tls=True, folder=clients.sign("perdure", -DAY).write(tmp_path / "client"))
    connection = Connection(Place("127.0.0.1:1", "default", files), identity="tests", lazy=True)

    await connection.open()

    assert (connection.problem or "").startswith("the client certificate for 127.0.0.1:1 expired on 20")


class Gate(grpc.GenericRpcHandler):
    """As much of a frontend as lets a client connect and call, with an API key."""

    def __init__(self, api_key: str) -> None:
        self.api_key = api_key
        self.headers: dict[str, str] = {}

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        name = details.method.rpartition("/")[2]
        answer = {"GetSystemInfo": GetSystemInfoResponse, "DescribeNamespace": DescribeNamespaceResponse}[name]

        async def handle(_: bytes, context: grpc.aio.ServicerContext) -> bytes:
            self.headers = {key: str(value) for key, value in context.invocation_metadata() or ()}
            if self.headers.get("authorization") != f"Bearer {self.api_key}":
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no such key")
            content: bytes = answer().SerializeToString()
            return content

        return grpc.unary_unary_rpc_method_handler(handle)


@dataclass(frozen=True)
class Guarded:
    """A frontend that wants an API key, and where the client's is."""

    gate: Gate
    file: Path
    place: Place


@pytest_asyncio.fixture(loop_scope="module")
async def guarded(tmp_path: Path) -> AsyncIterator[Guarded]:
    signed = SERVERS.sign("frontend")
    gate = Gate("first")
    server = grpc.aio.server(handlers=[gate])
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(signed.key, signed.certificate)]))
    await server.start()
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls" / "ca.crt").write_bytes(SERVERS.certificate)
    file = tmp_path / "key"
    file.write_text("first\n")
    files = CredentialFiles(tls=True, folder=tmp_path / "tls", api_key=file)
    yield Guarded(gate, file, Place(f"127.0.0.1:{port}", "training.a1b2c", files))
    await server.stop(None)


async def call(client: Client) -> None:
    await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=client.namespace))


async def test_an_api_key_is_sent_with_each_call_over_tls(guarded: Guarded) -> None:
    await call(await Connection(guarded.place, identity="tests").open())

    assert guarded.gate.headers["authorization"] == "Bearer first"
    assert guarded.gate.headers["temporal-namespace"] == "training.a1b2c"


async def test_a_new_api_key_is_sent_from_the_next_look_on(guarded: Guarded) -> None:
    connection = Connection(guarded.place, identity="tests")
    before = await connection.open()
    guarded.gate.api_key = "second"
    with pytest.raises(RPCError) as refusal:
        await call(before)
    assert refusal.value.status is RPCStatusCode.UNAUTHENTICATED

    guarded.file.write_text("second\n")
    taken: list[Client] = []
    with capture_logs() as logs:
        await connection.look(taken.append)

    assert taken == [connection.client]
    await call(connection.client)
    assert guarded.gate.headers["authorization"] == "Bearer second"
    assert [each["event"] for each in logs] == ["temporal_credentials_renewed"]
    assert "second" not in str(logs)


async def test_files_are_looked_at_for_as_long_as_the_process_runs(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure_control.temporal._LOOK_SECONDS", 0.01)
    connection = Connection(guarded.place, identity="tests")
    await connection.open()
    taken: asyncio.Queue[Client] = asyncio.Queue()
    looking = asyncio.create_task(connection.keep_fresh(taken.put_nowait))

    async with asyncio.timeout(PATIENCE_SECONDS):
        for key in ("second", "third"):
            guarded.gate.api_key = key
            guarded.file.write_text(key)
            await call(await taken.get())
    looking.cancel()


async def test_where_there_are_no_files_there_is_nothing_to_look_at() -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        await Connection(Place("127.0.0.1:1", "default"), identity="tests").keep_fresh(none)


async def test_an_api_key_that_does_not_open_leaves_the_one_before(guarded: Guarded) -> None:
    connection = Connection(guarded.place, identity="tests")
    await connection.open()
    guarded.file.write_text("wrong-one")

    with capture_logs() as logs:
        await connection.look(none)
        await connection.look(none)

    await call(connection.client)
    assert guarded.gate.headers["authorization"] == "Bearer first"
    assert [each["event"] for each in logs] == ["temporal_credentials_not_usable"]
    assert "wrong-one" not in str(logs)
