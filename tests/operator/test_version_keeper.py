"""Versions of the workers on a real API server, with the rights of the chart, and in a real Temporal.

Nothing makes pods here: that a Deployment has some is written by the test, and the workers are its own.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from temporalio.client import Client
from temporalio.runtime import Runtime

from perdure_control.cluster import Cluster, NotFound
from perdure_control.temporal import Place
from perdure_operator import workflows
from perdure_operator.version_keeper import VersionKeeper
from perdure_operator.worker_pattern import PatternError, version_name
from perdure_operator.worker_versions import VersionsUnavailable, WorkerVersions
from tests.chart.rendered import LEAST, Chart, merged
from tests.operator.conftest import unused_port
from tests.workers.workflows.conftest import OWN, World, begin
from tests.workers.workflows.versioned import server, until, workers

if TYPE_CHECKING:
    from tests.conftest import ApiServer

pytestmark = [pytest.mark.cluster, pytest.mark.temporal]

PATTERN = "perdure-worker"


@dataclass(frozen=True)
class Installation:
    """The chart's Deployment of the workers in a namespace, and what is made from it."""

    api_server: ApiServer
    namespace: str

    def install(self, build: str, **worker: Any) -> None:
        """As `helm upgrade` does it."""
        on = {"worker": {"versioning": {"enabled": True, "build": build}, **worker}}
        deployment = Chart().one("Deployment", PATTERN, LEAST, on)
        self.kubectl("apply", "-f", "-", document=merged(deployment, {"metadata": {"namespace": self.namespace}}))

    def builds(self) -> dict[str, dict[str, Any]]:
        """The Deployments of versions, by build."""
        listing = json.loads(self.kubectl("get", "deployments", "-l", f"perdure.dev/workers={PATTERN}", "-o", "json"))
        return {each["metadata"]["labels"]["perdure.dev/build"]: each for each in listing["items"]}

    def has_pods(self, build: str) -> None:
        patch = {"status": {"replicas": 2, "readyReplicas": 2}}
        name = version_name(PATTERN, build)
        self.kubectl("patch", "deployment", name, "--subresource=status", "--type=merge", "-p", json.dumps(patch))

    def kubectl(self, *arguments: str, document: object = None) -> str:
        return self.api_server.kubectl("-n", self.namespace, *arguments, document=document)


@pytest.fixture
def installation(api_server: ApiServer, namespace: str) -> Installation:
    return Installation(api_server, namespace)


@pytest.fixture
async def cluster(api_server: ApiServer, namespace: str) -> AsyncIterator[Cluster]:
    """As an account with the operator's rights in its own namespace."""
    on = {"worker": {"versioning": {"enabled": True}}}
    role = Chart().one("Role", "perdure-operator", LEAST, on)
    name = {"name": "operator", "namespace": namespace}
    rbac = "rbac.authorization.k8s.io"
    items: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": name},
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": name, "rules": role["rules"]},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": name,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "operator"},
            "subjects": [{"kind": "ServiceAccount", **name}],
        },
    ]
    api_server.kubectl("apply", "-f", "-", document={"apiVersion": "v1", "kind": "List", "items": items})
    token = api_server.kubectl("create", "token", "operator", "-n", namespace).strip()
    async with await Cluster.connect("tests", kubeconfig=str(api_server.kubeconfig_for(token))) as cluster:
        yield cluster


@pytest.fixture
async def client(runtime: Runtime) -> AsyncIterator[Client]:
    async with server(runtime) as client:
        yield client


@pytest.fixture
def keeper(cluster: Cluster, client: Client, namespace: str) -> VersionKeeper:
    return VersionKeeper(cluster, WorkerVersions(client), namespace, PATTERN)


@asynccontextmanager
async def working(installation: Installation, client: Client, build: str, world: World) -> AsyncIterator[None]:
    """Pods of a version, ready and polling."""
    installation.has_pods(build)
    async with workers(client, build, world):
        yield


async def settled(keeper: VersionKeeper) -> None:
    """Looks until the installed version is the current one."""

    async def all_is_well() -> bool:
        try:
            return await keeper.look() is None
        except VersionsUnavailable:
            return False  # Temporal has heard of the workers, and not yet of all their task queues

    await until(all_is_well)


async def test_an_upgrade_keeps_older_workers_for_as_long_as_they_have_jobs(
    installation: Installation, keeper: VersionKeeper, client: Client
) -> None:
    versions, old, new = WorkerVersions(client), World(monitor_for_ever=True), World()
    installation.install("old")
    assert "no workers of version old are ready yet" in str(await keeper.look())
    async with working(installation, client, "old", old):
        await settled(keeper)
        handle = await begin(client, OWN)
        await until(lambda: _holds(old.monitored == [1]))

        installation.install("new")
        assert "no workers of version new are ready yet, and version old stays current" in str(await keeper.look())
        assert installation.builds().keys() == {"old", "new"}
        assert keeper.unready
        async with working(installation, client, "new", new):
            await settled(keeper)
            await keeper.look()
            assert keeper.states() == {"old": "draining", "new": "current"}
            assert keeper.unready is None
            assert installation.builds().keys() == {"old", "new"}

            old.monitor_for_ever = False
            await handle.result()
            await until(lambda: _only(keeper, installation, "new"))
            assert (await versions.look()).current == "new"


async def test_a_rollback_makes_the_older_version_current_again_even_when_it_was_removed(
    installation: Installation, keeper: VersionKeeper, client: Client
) -> None:
    installation.install("old")
    await keeper.look()
    async with working(installation, client, "old", World()):
        await settled(keeper)
        installation.install("new")
        await keeper.look()
        async with working(installation, client, "new", World()):
            await settled(keeper)
            await until(lambda: _only(keeper, installation, "new"))

            installation.install("old")
            await keeper.look()
            installation.has_pods("old")
            await settled(keeper)

            await until(lambda: _only(keeper, installation, "old"))
            assert (await WorkerVersions(client).look()).current == "old"


async def test_two_operators_come_to_the_same_conclusion(
    installation: Installation, keeper: VersionKeeper, cluster: Cluster, client: Client
) -> None:
    other = VersionKeeper(cluster, WorkerVersions(client), installation.namespace, PATTERN)
    installation.install("one")
    await keeper.look()
    await other.look()
    async with working(installation, client, "one", World()):
        await settled(other)
        await settled(keeper)

    (deployment,) = installation.builds().values()
    assert deployment["metadata"]["generation"] == 1, "made once, and left alone"


async def test_other_settings_go_to_the_deployment_of_the_same_version(
    installation: Installation, keeper: VersionKeeper
) -> None:
    installation.install("one")
    await keeper.look()
    installation.install("one", slots=3, replicas=5)
    await keeper.look()

    (deployment,) = installation.builds().values()
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert deployment["spec"]["replicas"] == 5
    assert {"name": "PERDURE_WORKER_SLOTS", "value": "3"} in container["env"]


async def test_while_temporal_is_away_there_are_workers_and_nothing_is_removed(
    installation: Installation, cluster: Cluster
) -> None:
    away = await workflows.connection(Place(f"127.0.0.1:{unused_port()}", "default")).open()
    keeper = VersionKeeper(cluster, WorkerVersions(away), installation.namespace, PATTERN)
    for build in ("old", "new"):
        installation.install(build)
        with pytest.raises(VersionsUnavailable):
            await keeper.look()

    assert installation.builds().keys() == {"old", "new"}


async def test_what_the_chart_did_not_install_is_told(
    installation: Installation, cluster: Cluster, keeper: VersionKeeper
) -> None:
    with pytest.raises(NotFound, match=r'deployments\.apps "perdure-worker" not found'):
        await keeper.look()
    deployment = Chart().one("Deployment", PATTERN, LEAST)
    installation.kubectl(
        "apply", "-f", "-", document=merged(deployment, {"metadata": {"namespace": installation.namespace}})
    )
    with pytest.raises(PatternError, match=r"have no label perdure\.dev/build"):
        await keeper.look()


async def _holds(value: bool) -> bool:  # noqa: FBT001 - a condition
    return value


async def _only(keeper: VersionKeeper, installation: Installation, build: str) -> bool:
    """Whether no other version is left, after another look."""
    await keeper.look()
    return installation.builds().keys() == {build}
