"""What a real Temporal says of versions of the workers, and what the operator has it do."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc.aio
import pytest
import pytest_asyncio
from temporalio.client import Client
from temporalio.runtime import Runtime

from perdure_control.temporal import Place
from perdure_operator import workflows
from perdure_operator.no_versions import NoVersions
from perdure_operator.versions import Known, Standing
from perdure_operator.worker_versions import VersionsUnavailable, WorkerVersions
from tests.operator.conftest import unused_port
from tests.workers.workflows.conftest import OWN, Handle, World, begin
from tests.workers.workflows.versioned import server, until, workers

pytestmark = [
    pytest.mark.temporal,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(90),
]


@pytest_asyncio.fixture(loop_scope="module")
async def client(runtime: Runtime) -> AsyncIterator[Client]:
    async with server(runtime) as client:
        yield client


async def make_current(versions: WorkerVersions, build: str) -> None:
    """As soon as its workers poll: a moment later Temporal knows that they have all its task queues."""

    async def made() -> bool:
        known = await versions.look()
        if build not in known.polling:
            return False
        try:
            await versions.make_current(build, known.token)
        except VersionsUnavailable:
            return False
        return True

    await until(made)


async def running(client: Client, world: World) -> Handle:
    """A job that trains until the world says otherwise."""
    handle = await begin(client, OWN)

    async def monitored() -> bool:
        return world.monitored == [1]

    await until(monitored)
    return handle


async def test_before_the_first_worker_nothing_is_known(client: Client) -> None:
    assert await WorkerVersions(client).look() == Known()


async def test_a_version_is_told_from_its_first_poll_to_its_last_workflow(client: Client) -> None:
    versions, old, new = WorkerVersions(client), World(monitor_for_ever=True), World()
    async with workers(client, "0.1.0-old", old):
        await until(lambda: _polls(versions, "0.1.0-old"))
        first = await versions.look()
        assert (first.current, first.standings) == ("", {"0.1.0-old": Standing.INACTIVE})
        await make_current(versions, "0.1.0-old")
        handle = await running(client, old)

        async with workers(client, "0.1.0-new", new):
            await make_current(versions, "0.1.0-new")

            known = await versions.look()
            assert known.current == "0.1.0-new"
            assert known.standings == {"0.1.0-old": Standing.DRAINING, "0.1.0-new": Standing.CURRENT}
            assert known.polling == {"0.1.0-old", "0.1.0-new"}
            await until(lambda: _has_workflows(versions, "0.1.0-old", 1))
            assert await versions.open_workflows("0.1.0-new") == 0

            old.monitor_for_ever = False
            await handle.result()
            await until(lambda: _stands(versions, "0.1.0-old", Standing.DRAINED))
            await until(lambda: _has_workflows(versions, "0.1.0-old", 0))


async def test_of_two_who_change_the_current_version_at_once_one_is_refused(client: Client) -> None:
    versions, world = WorkerVersions(client), World()
    async with workers(client, "a", world), workers(client, "b", world):
        await until(lambda: _polls(versions, "a", "b"))
        seen = await versions.look()
        await versions.make_current("a", seen.token)

        with pytest.raises(VersionsUnavailable, match="conflict token mismatch"):
            await versions.make_current("b", seen.token)

        assert (await versions.look()).current == "a"


async def test_an_unknown_version_does_not_become_current(client: Client) -> None:
    versions = WorkerVersions(client)
    async with workers(client, "a", World()):
        await make_current(versions, "a")

        with pytest.raises(VersionsUnavailable, match="not_found: build ID 'b' not found"):
            await versions.make_current("b", b"")


async def test_jobs_whose_workers_are_gone_for_good_are_carried_on_by_another_version(client: Client) -> None:
    """As after an uninstallation, and the installation of a newer release."""
    versions, old, new = WorkerVersions(client), World(monitor_for_ever=True), World()
    async with workers(client, "old", old):
        await make_current(versions, "old")
        handle = await running(client, old)
    async with workers(client, "new", new):
        await make_current(versions, "new")
        await until(lambda: _has_workflows(versions, "old", 1))

        assert await versions.take_over("old", by="new") == 1

        status = await handle.result()
        assert (status.phase, len(status.attempts)) == ("Succeeded", 1)
        assert new.monitored == [1], "the same attempt, followed further"
        assert await versions.take_over("old", by="new") == 0


async def test_versions_that_are_switched_off_again_leave_what_is_new_to_workers_without_one(client: Client) -> None:
    versions, old, new = WorkerVersions(client), World(monitor_for_ever=True), World()
    off = NoVersions(versions)
    async with workers(client, "old", old):
        await make_current(versions, "old")
        began = await running(client, old)
        await off.look()
        assert (await versions.look()).current == "old", "before there are others"

        async with workers(client, "", new):
            await until(lambda: _polls(versions, ""))
            await off.look()

            assert (await (await begin(client, OWN)).result()).phase == "Succeeded"
            assert (await versions.look()).current == ""
            assert len(new.created) == 1
            old.monitor_for_ever = False
            assert (await began.result()).phase == "Succeeded"
            assert len(new.created) == 1, "what began on the version stayed there"


async def test_a_server_whose_versions_are_switched_off_is_told_so_in_a_sentence(runtime: Runtime) -> None:
    async with server(runtime, "system.enableDeploymentVersions=false") as client:
        with pytest.raises(VersionsUnavailable) as told:
            await WorkerVersions(client).look()

    assert str(told.value).startswith("Temporal tells no versions of workers apart (Worker Deployment Versions are")
    assert "upgrade it to 1.29 or later and leave system.enableDeploymentVersions on, or install" in str(told.value)


async def test_a_server_that_is_too_old_is_told_so_in_the_same_sentence() -> None:
    """One that knows none of the calls."""
    old = grpc.aio.server()
    port = old.add_insecure_port("127.0.0.1:0")
    await old.start()
    try:
        client = await workflows.connection(Place(f"127.0.0.1:{port}", "default")).open()
        with pytest.raises(VersionsUnavailable, match="Temporal tells no versions of workers apart"):
            await WorkerVersions(client).look()
    finally:
        await old.stop(None)


async def test_that_temporal_is_away_is_told() -> None:
    client = await workflows.connection(Place(f"127.0.0.1:{unused_port()}", "default")).open()

    with pytest.raises(VersionsUnavailable, match="Temporal: "):
        await WorkerVersions(client).look()


async def _polls(versions: WorkerVersions, *builds: str) -> bool:
    return (await versions.look()).polling >= set(builds)


async def _stands(versions: WorkerVersions, build: str, standing: Standing) -> bool:
    return (await versions.look()).standings[build] is standing


async def _has_workflows(versions: WorkerVersions, build: str, count: int) -> bool:
    return await versions.open_workflows(build) == count
