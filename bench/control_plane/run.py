"""One run: some jobs of one kind, and everything that they cost meanwhile."""

from __future__ import annotations

import asyncio
import re
import resource
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from temporalio.client import Client

from bench.cluster import requests, story, workload
from bench.cluster.api import Api, Document, Take, each, watching
from bench.cluster.errors import BenchError
from bench.cluster.installation import Installation
from bench.cluster.namespaces import namespace
from bench.control_plane.moments import Witness
from bench.control_plane.results import Plan, Run
from perdure_api import names

PAUSE_SECONDS = 5.0
"""Before a run: what was deleted before is collected by then."""
SETTLED_SECONDS = 3.0
"""After the last job's end: Events and the last statuses are written by then, and belong to the jobs."""
STORIES = 20
_SAMPLE_SECONDS = 0.5
_NO_OBJECTS = re.compile(r"^events\.k8s\.io/|metrics\.k8s\.io/")
_SECONDS_PER_JOB = 1.0
_LEAST_SECONDS = 120.0


async def run(installation: Installation, plan: Plan, temporal: Client) -> Run:
    """Makes one run, in a namespace of its own.

    Raises:
        BenchError: jobs did not end well, or not in time.
    """
    api = installation.api
    async with namespace(api, "control-plane", f"{plan.kind}-{plan.jobs}-{plan.turn}") as name:
        witness = Witness(plan.kind)
        async with _watching(api, name, witness):
            await installation.find_processes()
            there_before = await objects(api, name)
            await asyncio.sleep(PAUSE_SECONDS)
            before, own_before = await installation.began(), _own_cpu_seconds()
            memory = _Memory(installation)
            async with memory.sampled():
                await (_burst if plan.at_once else _one_by_one)(api, name, plan, witness)
                await asyncio.sleep(SETTLED_SECONDS)
            after, own_after = await installation.ended(), _own_cpu_seconds()
            there = await objects(api, name)
        stories = [] if plan.kind == workload.PLAIN else await _stories(api, name, list(witness.jobs), temporal)
    asked = requests.between(before.requests, after.requests)
    return Run(
        plan=plan,
        jobs=list(witness.jobs.values()),
        cpu_seconds={
            who: round(usage.cpu_seconds - before.usage[who].cpu_seconds, 3) for who, usage in after.usage.items()
        },
        requests={str(kind): times for kind, times in sorted(asked.items())},
        objects={kind: number - there_before.get(kind, 0) for kind, number in there.items()},
        memory=memory.told(),
        story=story.mean(stories),
        own_cpu_seconds=round(own_after - own_before, 3),
    )


async def objects(api: Api, name: str) -> dict[str, int]:
    """How many objects of each kind a namespace has."""
    found = {}
    for group in await _groups(api):
        for kind in (await api.get(group))["resources"]:
            plural = kind["name"]
            if kind["namespaced"] and "list" in kind["verbs"]:
                found[plural] = await api.count(f"{group}/namespaces/{name}/{plural}")
    return {plural: number for plural, number in found.items() if number}


async def _groups(api: Api) -> list[str]:
    """Where kinds of objects are listed. The newer group's events are the older one's, told again; metrics are none."""
    names = [group["preferredVersion"]["groupVersion"] for group in (await api.get("/apis"))["groups"]]
    return ["/api/v1", *(f"/apis/{name}" for name in names if not _NO_OBJECTS.search(name))]


@asynccontextmanager
async def _watching(api: Api, name: str, witness: Witness) -> AsyncIterator[None]:
    takers: dict[str, Take] = {
        workload.pods_path(name): witness.take_pod,
        workload.jobs_path(name): witness.take_job,
        workload.trainingjobs_path(name): witness.take_trainingjob,
    }
    async with watching(api, takers):
        yield


async def _burst(api: Api, name: str, plan: Plan, witness: Witness) -> None:
    documents = [workload.manifest(plan.kind, f"j{number}") for number in range(plan.jobs)]

    async def send(document: Document) -> None:
        witness.applies(document["metadata"]["name"])
        await api.create(workload.path_of(plan.kind, name), document)

    await each(documents, send)
    await _until_done(witness, max(_LEAST_SECONDS, _SECONDS_PER_JOB * plan.jobs))


async def _one_by_one(api: Api, name: str, plan: Plan, witness: Witness) -> None:
    for number in range(plan.jobs):
        document = workload.manifest(plan.kind, f"j{number}")
        witness.applies(f"j{number}")
        await api.create(workload.path_of(plan.kind, name), document)
        await _until_done(witness, _LEAST_SECONDS)


async def _until_done(witness: Witness, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not witness.done:
        if witness.failed:
            name, message = next(iter(witness.failed.items()))
            raise BenchError(f"{len(witness.failed)} jobs failed, expected none: {name}: {message}")
        if time.monotonic() > deadline:
            raise BenchError(
                f"{len(witness.missing)} of {len(witness.jobs)} jobs are not done after {seconds:.0f} s, such as "
                f"{witness.missing[0]}: {witness.jobs[witness.missing[0]]}"
            )
        await asyncio.sleep(0.02)


async def _stories(api: Api, name: str, jobs: Sequence[str], temporal: Client) -> list[story.Story]:
    """Of some of the jobs' workflows, evenly spread."""
    found = []
    for job in jobs[:: max(1, len(jobs) // STORIES)][:STORIES]:
        uid = (await api.get(f"{workload.trainingjobs_path(name)}/{job}"))["metadata"]["uid"]
        history = await temporal.get_workflow_handle(names.workflow_id(name, job, uid)).fetch_history()
        found.append(story.told(history.events))
    return found


def _own_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class _Memory:
    """Memory of each process: at the beginning, at the most, at the end."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._samples: list[dict[str, int]] = []

    @asynccontextmanager
    async def sampled(self) -> AsyncIterator[None]:
        """Looks until the end of the block."""
        self._look()
        task = asyncio.create_task(self._go_on())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self._look()

    def told(self) -> dict[str, dict[str, int]]:
        """Bytes."""
        first, last = self._samples[0], self._samples[-1]
        return {
            who: {"before": first[who], "most": max(each[who] for each in self._samples), "after": last[who]}
            for who in first
        }

    def _look(self) -> None:
        self._samples.append({who: usage.bytes_ for who, usage in self._installation.usage().items()})

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(_SAMPLE_SECONDS)
            self._look()
