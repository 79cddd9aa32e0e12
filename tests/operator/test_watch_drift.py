"""The listing is real; the watch is this test, which tells the tracker what it likes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from perdure_api import names
from perdure_control.cluster import Cluster
from perdure_control.statuses import TRAINING_JOBS, EventSource
from perdure_control.temporal import Place
from perdure_operator import workflows
from perdure_operator.admission import Limits
from perdure_operator.drift import Rhythm, WatchDrift
from perdure_operator.metrics import make_metrics
from perdure_operator.objects import TrainingJobs
from perdure_operator.observation import observe
from perdure_operator.queue import ReconcileQueue
from perdure_operator.services import Services
from perdure_operator.tracker import Tracker
from perdure_operator.turns import Turns

if TYPE_CHECKING:
    from tests.conftest import ApiServer
    from tests.operator.conftest import Jobs

pytestmark = pytest.mark.cluster


@dataclass(frozen=True)
class Watched:
    """A watch and what it is compared with."""

    cluster: Cluster
    tracker: Tracker
    queue: ReconcileQueue
    drift: WatchDrift
    namespace: str

    async def tell(self, name: str) -> None:
        """What kopf's handler does with an event."""
        seen = observe(await self.cluster.get(TRAINING_JOBS.path(self.namespace, name)))
        self.tracker.see(seen).watched_version = seen.resource_version


@pytest.fixture
async def watched(api_server: ApiServer, namespace: str) -> AsyncIterator[Watched]:
    async with await Cluster.connect("tests", kubeconfig=str(api_server.kubeconfig)) as cluster:
        tracker, queue = Tracker(), ReconcileQueue(workers=1)
        services = Services(
            objects=TrainingJobs(cluster, EventSource("tests", "tests")),
            workflows=workflows.Workflows(await workflows.connection(Place("127.0.0.1:1", "default")).open()),
            tracker=tracker,
            queue=queue,
            turns=Turns(Limits(), tracker, queue),
            metrics=make_metrics(CollectorRegistry()),
            temporal_address="127.0.0.1:1",
        )
        rhythm = Rhythm(first_seconds=0, settle_seconds=0)
        yield Watched(cluster, services.tracker, queue, WatchDrift(services, rhythm, [namespace]), namespace)


async def test_a_watch_that_has_told_everything_is_complete(watched: Watched, jobs: Jobs) -> None:
    name = jobs.create()

    await watched.drift.compare()
    assert not watched.drift.complete

    await watched.tell(name)
    await watched.drift.compare()
    assert watched.drift.complete
    assert watched.drift.problem is None


async def test_an_empty_namespace_is_told_at_once(watched: Watched) -> None:
    await watched.drift.compare()

    assert watched.drift.complete


@pytest.mark.parametrize(
    "happens",
    [
        lambda jobs, name: jobs.create(),
        lambda jobs, name: jobs.annotate(name, "changed=true"),
    ],
    ids=["a new object", "a change"],
)
async def test_what_a_watch_misses_makes_it_dead_and_is_made_good(
    watched: Watched, jobs: Jobs, happens: Callable[[Jobs, str], object]
) -> None:
    name = jobs.create()
    await watched.tell(name)
    await watched.drift.compare()

    happens(jobs, name)
    await watched.drift.compare()

    assert watched.drift.problem is not None
    assert "has not told of 1 TrainingJobs" in watched.drift.problem
    assert len(watched.queue) == 1


async def test_a_watch_that_catches_up_is_alive_again(watched: Watched, jobs: Jobs) -> None:
    await watched.drift.compare()
    name = jobs.create()
    await watched.drift.compare()
    assert watched.drift.problem

    await watched.tell(name)
    await watched.drift.compare()

    assert watched.drift.problem is None


async def test_a_deletion_that_was_not_told_is_noticed(watched: Watched, jobs: Jobs) -> None:
    """kopf lists again after it lost its place in the history, and does not compare."""
    name = jobs.create()
    await watched.tell(name)
    jobs.kubectl("delete", names.PLURAL, name, "-n", jobs.namespace)

    await watched.drift.compare()

    assert [tracked.gone for tracked in watched.tracker] == [True]
    assert len(watched.queue) == 1
