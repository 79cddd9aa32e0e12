"""One run as a whole, beside an API server that plays a cluster."""

from __future__ import annotations

import os
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from temporalio.client import WorkflowHistory

from bench.cluster import requests, usage
from bench.cluster.api import Api, Document
from bench.cluster.errors import BenchError
from bench.cluster.installation import Reading
from bench.cluster.workload import KINDS, OURS, PLAIN
from bench.control_plane import run
from bench.control_plane.results import Plan
from tests.bench.stand_in import StandIn, stand_in
from tests.workers.workflows.record import HISTORIES


class Cluster(StandIn):
    """Jobs have pods, which succeed; TrainingJobs have Jobs."""

    ends = "Succeeded"

    async def on_create(self, path: str, document: Document) -> None:
        name, plural = document["metadata"]["name"], path.rpartition("/")[2]
        if plural not in {"jobs", "trainingjobs"}:
            return
        namespace = path.split("namespaces/")[1].split("/", maxsplit=1)[0]
        label = "perdure.dev/trainingjob" if plural == "trainingjobs" else "batch.kubernetes.io/job-name"
        labels = {"metadata": {"name": f"{name}-x", "labels": {label: name}}}
        pods, jobs = f"/api/v1/namespaces/{namespace}/pods", f"/apis/batch/v1/namespaces/{namespace}/jobs"
        await self.put(f"{pods}/{name}-x", labels)
        await self.put(f"{pods}/{name}-x", labels | {"status": {"phase": self.ends}}, "MODIFIED")
        done = {"conditions": [{"type": "Complete", "status": "True"}]}
        if plural == "jobs":
            await self.put(f"{jobs}/{name}", document | {"status": done}, "MODIFIED")
            return
        await self.put(f"{jobs}/{name}-1", labels | {"status": done})
        over = {"conditions": [{"type": "Succeeded", "status": "True"}]}
        metadata = document["metadata"] | {"uid": f"uid-of-{name}"}
        await self.put(f"{path}/{name}", document | {"metadata": metadata, "status": over}, "MODIFIED")


class Here:
    """Stands for the installation: its processes are this one."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self._asked = 0

    async def find_processes(self) -> None:
        """They are known."""

    def usage(self) -> dict[str, usage.Usage]:
        ours = usage.process(os.getpid())
        assert ours
        return {"worker": usage.of([ours])}

    async def began(self) -> Reading:
        return await self.ended()

    async def ended(self) -> Reading:
        self._asked += 30
        return Reading(self.usage(), Counter({requests.Request("pods", "POST"): self._asked}))


class Temporal:
    """Tells one recorded history of whoever is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def get_workflow_handle(self, workflow_id: str) -> Any:
        self.asked.append(workflow_id)

        async def fetch_history() -> WorkflowHistory:
            (path,) = sorted(HISTORIES.glob("*/own-command.json"))[-1:]
            return WorkflowHistory.from_json(workflow_id, path.read_text())

        return SimpleNamespace(fetch_history=fetch_history)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PAUSE_SECONDS", "SETTLED_SECONDS"):
        monkeypatch.setattr(run, name, 0)


async def discoverable(server: StandIn) -> None:
    """Kinds that are not namespaced, or not listed, and events told twice are no objects of a job."""
    group = {"preferredVersion": {"groupVersion": "batch/v1"}}
    twice = {"preferredVersion": {"groupVersion": "events.k8s.io/v1"}}
    await server.put("/apis", {"groups": [group, twice]})
    pods = {"name": "pods", "namespaced": True, "verbs": ["list"]}
    status = {"name": "pods/status", "namespaced": True, "verbs": ["get"]}
    nodes = {"name": "nodes", "namespaced": False, "verbs": ["list"]}
    await server.put("/api/v1", {"resources": [pods, status, nodes]})
    await server.put("/apis/batch/v1", {"resources": [{"name": "jobs", "namespaced": True, "verbs": ["list"]}]})


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "one by one"])
@pytest.mark.parametrize("kind", KINDS)
async def test_every_job_is_seen_to_its_end_and_nothing_is_left(kind: str, *, at_once: bool) -> None:
    temporal = Temporal()
    async with stand_in(Cluster) as (server, api):
        await discoverable(server)
        made = await run.run(Here(api), Plan(kind, 40 if at_once else 8, at_once, 0), temporal)  # type: ignore[arg-type]
        left = [path for path in server.objects if "/namespaces/" in path]

    assert len(made.jobs) == made.plan.jobs
    assert made.jobs_per_second > 0
    assert made.lag("applied", "succeeded", 1.0) >= made.lag("applied", "pod", 1.0) >= 0
    assert made.requests == {"POST pods": 30}
    assert made.objects == {"pods": made.plan.jobs, "jobs": made.plan.jobs}
    assert made.memory["worker"]["most"] >= made.memory["worker"]["before"] > 0
    assert left == []
    if kind == OURS:
        assert made.story["events"] > 5
        assert len(temporal.asked) == min(run.STORIES, made.plan.jobs)
        assert temporal.asked[0].endswith("/j0/uid-of-j0")
    else:
        assert made.story == {}


async def test_jobs_that_do_not_end_are_counted_and_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_LEAST_SECONDS", 0.05)
    monkeypatch.setattr(run, "_SECONDS_PER_JOB", 0)
    monkeypatch.setattr(Cluster, "ends", "Running")
    async with stand_in(Cluster) as (server, api):
        await discoverable(server)
        with pytest.raises(ExceptionGroup) as caught:
            await run.run(Here(api), Plan(PLAIN, 3, at_once=True, turn=0), Temporal())  # type: ignore[arg-type]
        left = [path for path in server.objects if "/namespaces/" in path]

    assert caught.group_contains(BenchError, match="3 of 3 jobs are not done after 0 s, such as j0")
    assert left == []
