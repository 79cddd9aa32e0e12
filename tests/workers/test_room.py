"""Places that are held for the nodes that an attempt lacks, against a real API server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from temporalio.testing import ActivityEnvironment

from perdure_api import names
from perdure_api.spec import TrainingJobSpec
from perdure_api.workflow import JobRef
from perdure_control.cluster import JOBS, Cluster, Document, NotFound
from perdure_workers.activities import room
from perdure_workers.activities.adoption import NotUsable
from perdure_workers.activities.room import RoomActivities
from perdure_workers.manifests import PodDefaults
from perdure_workers.messages import AwaitRoom
from perdure_workers.watching.index import AttemptIndex
from tests.conftest import ApiServer

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]

SECONDS = 60
SPEC = {"trainer": {"image": "i", "command": ["torchrun", "train.py"]}, "resources": {"nodes": 1}}


@pytest_asyncio.fixture(loop_scope="module")
async def cluster(api_server: ApiServer) -> AsyncIterator[Cluster]:
    async with await Cluster.connect("tests", kubeconfig=str(api_server.kubeconfig)) as cluster:
        yield cluster


class Waiting:
    """An attempt on one of two nodes, and somebody who waits for room for the other."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.looks = 0
        self._looked = asyncio.Event()
        self._index = AttemptIndex()
        self._job = JobRef(namespace="default", name=name, uid=f"uid-of-{name}", generation=1)
        self._pod = self._placed_pod()
        self._index.pods.put(self._pod)

    @property
    def path(self) -> str:
        """Of what holds the place."""
        return JOBS.path("default", f"{self._job.name}-0")

    def begin(self) -> asyncio.Task[None]:
        spec = TrainingJobSpec.from_wire(SPEC).completed()
        request = AwaitRoom(job=self._job, spec=spec, attempt=1, missing=1)
        activities = RoomActivities(self.cluster, self._index, lambda: PodDefaults(trainer_image="trainer:1"))
        environment = ActivityEnvironment()
        environment.on_heartbeat = self._look
        return asyncio.create_task(environment.run(activities.await_room, request))

    def attempt_ends(self) -> None:
        self._index.pods.remove(self._pod)

    async def another_look(self) -> None:
        """Returns when it has looked once more from now on, and has found no room."""
        before = self.looks
        async with asyncio.timeout(SECONDS):
            while self.looks <= before + 1:
                self._looked.clear()
                await self._looked.wait()

    async def uid(self) -> str | None:
        """Of the Job that bears the name of what holds the place; None: there is none."""
        with contextlib.suppress(NotFound):
            return await self.cluster.uid(self.path)
        return None

    async def somebody_elses(self) -> str:
        """Creates a Job of that name; its uid."""
        template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}
        name = self.path.rpartition("/")[2]
        body: Document = {
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"template": template}
        }  # fmt: skip
        created = await self.cluster.create(JOBS.path("default"), body)
        uid: str = created["metadata"]["uid"]
        return uid

    def _look(self, *_: object) -> None:
        self.looks += 1
        self._looked.set()

    def _placed_pod(self) -> dict[str, Any]:
        labels = {names.LABEL_JOB_UID: self._job.uid, names.LABEL_ATTEMPT: "1"}
        metadata = {"name": "p", "namespace": "default", "uid": "p", "labels": labels, "resourceVersion": "1"}
        return {"metadata": metadata, "spec": {"nodeName": "n1"}, "status": {"phase": "Running"}}


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_LOOK_SECONDS", 0.05)


async def test_a_job_of_somebody_else_does_not_hold_a_place_and_is_not_deleted(cluster: Cluster) -> None:
    waiting = Waiting(cluster, "taken")
    theirs = await waiting.somebody_elses()

    with pytest.raises(NotUsable, match="a Job taken-0 that is not ours exists in namespace default"):
        await asyncio.wait_for(waiting.begin(), SECONDS)
    assert await waiting.uid() == theirs


async def test_a_place_that_is_held_is_used_again_and_given_back_when_the_attempt_ends(cluster: Cluster) -> None:
    waiting = Waiting(cluster, "held")
    for _ in range(2):  # once more, as after a worker's death
        task = waiting.begin()
        await waiting.another_look()
        task.cancel()
    held = await waiting.uid()
    assert held

    task = waiting.begin()
    await waiting.another_look()
    assert await waiting.uid() == held
    waiting.attempt_ends()
    async with asyncio.timeout(SECONDS):
        while await waiting.uid() == held:
            await waiting.another_look()
    assert not task.done()
    task.cancel()


async def test_what_took_the_name_of_a_place_meanwhile_is_not_deleted_for_it(cluster: Cluster) -> None:
    waiting = Waiting(cluster, "replaced")
    task = waiting.begin()
    await waiting.another_look()
    await cluster.delete(waiting.path)
    async with asyncio.timeout(SECONDS):
        while await waiting.uid():
            await waiting.another_look()
    theirs = await waiting.somebody_elses()

    waiting.attempt_ends()
    await waiting.another_look()
    await waiting.another_look()
    assert (await waiting.uid(), task.done()) == (theirs, False)
    task.cancel()
