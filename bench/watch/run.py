"""Jobs that run and do nothing: what holding them costs, how soon an end is noticed, what a restart of workers does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import Client

from bench.cluster import requests, temporal, workload
from bench.cluster.api import Api, Document, Take, each, watching
from bench.cluster.errors import BenchError
from bench.cluster.installation import SYSTEM, Installation, Reading
from bench.cluster.namespaces import namespace
from bench.watch.results import Held, Rates, Restart
from perdure_api import names
from perdure_workers.messages import ActivityName

IDLE_SECONDS: Final = 30.0
SETTLE_SECONDS: Final = 30.0
"""After all run: what was written of their start is done by then."""
_SECONDS_PER_JOB: Final = 0.5
_LEAST_SECONDS: Final = 300.0
_NOTICE_SECONDS: Final = 120.0
_PAUSE_SECONDS: Final = 1.0
"""Between two ends, which are to be noticed one by one."""
_LOOK_SECONDS: Final = 1.0
_SAMPLE: Final = 50
"""Workflows that are asked while waiting for all: asking all of them again and again would be the load."""
HOW: Final = {"killed": 0, "asked": None}
"""Ways to end workers, with the grace period that they get; None: their own."""


@dataclass
class Seen:
    """What the watches of one namespace tell."""

    uids: dict[str, str] = field(default_factory=dict)
    """Of TrainingJobs, by name."""
    running: set[str] = field(default_factory=set)
    pods: dict[str, str] = field(default_factory=dict)
    """Name of a job's pod, by the job's name."""
    completed: dict[str, float] = field(default_factory=dict)
    succeeded: dict[str, float] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    """Jobs that came to an end that nobody gave them, with what they say of it."""

    def take_trainingjob(self, event: Document) -> None:
        """An event of the watch of TrainingJobs."""
        job = event["object"]
        name = job["metadata"]["name"]
        self.uids[name] = job["metadata"]["uid"]
        status = job.get("status") or {}
        found = {each["type"]: each for each in status.get("conditions") or []}
        if found.get("Running", {}).get("status") == "True":
            self.running.add(name)
        over = found.get("Succeeded", {})
        if over.get("status") == "True":
            self.succeeded.setdefault(name, time.monotonic())
        elif over.get("status") == "False":
            self.ended[name] = over.get("message", "")

    def take_job(self, event: Document) -> None:
        """An event of the watch of Jobs."""
        job = event["object"]
        name = job["metadata"].get("labels", {}).get(names.LABEL_JOB, "")
        for each_ in (job.get("status") or {}).get("conditions") or []:
            if each_["type"] == "Complete" and each_["status"] == "True":
                self.completed.setdefault(name, time.monotonic())

    def take_pod(self, event: Document) -> None:
        """An event of the watch of pods."""
        metadata = event["object"]["metadata"]
        self.pods[metadata.get("labels", {}).get(names.LABEL_JOB, "")] = metadata["name"]


@dataclass(frozen=True)
class Wish:
    """What is to be measured of one size."""

    jobs: int
    minutes: float
    ends: int
    """How many pods are ended, one by one, after the minutes."""
    restarts: Sequence[str] = tuple(HOW)


async def hold(installation: Installation, wish: Wish, client: Client) -> Held:
    """Makes the jobs, holds them, ends some, ends the workers; everything goes afterwards.

    Raises:
        BenchError: jobs do not run, or come to an end, or are not watched in time.
    """
    api = installation.api
    await installation.find_processes()
    before = await beginning(installation)
    await asyncio.sleep(IDLE_SECONDS)
    idle = rates(before, await end_of(installation))
    async with namespace(api, "watch", str(wish.jobs)) as name:
        seen = Seen()
        takers: dict[str, Take] = {
            workload.pods_path(name): seen.take_pod,
            workload.jobs_path(name): seen.take_job,
            workload.trainingjobs_path(name): seen.take_trainingjob,
        }
        async with watching(api, takers):
            starting = await _started(api, name, wish, seen, client)
            await asyncio.sleep(SETTLE_SECONDS)
            began = await beginning(installation)
            await asyncio.sleep(60 * wish.minutes)
            ended = await end_of(installation)
            _require_running(seen, wish)
            noticed = [await _end(api, name, f"j{number}", seen) for number in range(wish.ends)]
            rest = [f"j{number}" for number in range(wish.ends, wish.jobs)]
            restarts = [await _restart(installation, client, name, rest, seen, how) for how in wish.restarts]
    return Held(
        jobs=wish.jobs,
        minutes=wish.minutes,
        starting_seconds=round(starting, 2),
        idle=idle,
        held=rates(began, ended),
        memory={
            who: {
                "before": usage.bytes_,
                "running": began.reading.usage[who].bytes_,
                "end": ended.reading.usage[who].bytes_,
            }
            for who, usage in before.reading.usage.items()
        },
        noticed=[each_[1] for each_ in noticed],
        completed=[each_[0] for each_ in noticed],
        restarts=restarts,
    )


@dataclass(frozen=True)
class Moment:
    """Everything that counts up, and when it was read."""

    time: float
    reading: Reading
    temporal: Mapping[str, int]


async def beginning(installation: Installation) -> Moment:
    """Reads everything, what costs something first."""
    asked = await temporal.asked(installation)
    reading = await installation.began()
    return Moment(time.monotonic(), reading, asked)


async def end_of(installation: Installation) -> Moment:
    """Reads everything, what costs something last."""
    moment, reading = time.monotonic(), await installation.ended()
    return Moment(moment, reading, await temporal.asked(installation))


def rates(before: Moment, after: Moment) -> Rates:
    """What was used in between, per second."""
    seconds = after.time - before.time
    asked = requests.between(before.reading.requests, after.reading.requests)
    return Rates(
        {
            who: round((usage.cpu_seconds - before.reading.usage[who].cpu_seconds) / seconds, 6)
            for who, usage in after.reading.usage.items()
        },
        {str(kind): round(times / seconds, 5) for kind, times in sorted(asked.items())},
        {
            name: round((times - before.temporal.get(name, 0)) / seconds, 5)
            for name, times in sorted(after.temporal.items())
            if times > before.temporal.get(name, 0)
        },
    )


async def _started(api: Api, name: str, wish: Wish, seen: Seen, client: Client) -> float:
    """Makes the jobs; seconds until all of them run and are watched."""
    began = time.monotonic()
    path = workload.trainingjobs_path(name)
    documents = [workload.training_job(f"j{number}", workload.STAYS) for number in range(wish.jobs)]
    await each(documents, lambda document: api.create(path, document))
    deadline = began + max(_LEAST_SECONDS, _SECONDS_PER_JOB * wish.jobs)
    while len(seen.running) < wish.jobs:
        _require_running(seen, wish)
        if time.monotonic() > deadline:
            raise BenchError(
                f"{len(seen.running)} of {wish.jobs} jobs run after {deadline - began:.0f} s, expected all"
            )
        await asyncio.sleep(_LOOK_SECONDS)
    await _watched(client, name, [f"j{number}" for number in range(wish.jobs)], seen, 0.0, deadline + _LEAST_SECONDS)
    return time.monotonic() - began


def _require_running(seen: Seen, wish: Wish) -> None:
    if seen.ended:
        name, message = next(iter(seen.ended.items()))
        raise BenchError(f"{len(seen.ended)} of {wish.jobs} jobs have ended, expected all to run: {name}: {message}")


async def _end(api: Api, name: str, job: str, seen: Seen) -> tuple[float, float]:
    """Ends one job's pod as its kubelet would; seconds until its Job is Complete, and its TrainingJob Succeeded."""
    path = f"{workload.pods_path(name)}/{seen.pods[job]}/status"
    status = succeeded((await api.get(path))["status"])
    began = time.monotonic()
    await api.merge(path, {"status": status})
    while job not in seen.succeeded:
        if time.monotonic() > began + _NOTICE_SECONDS:
            raise BenchError(f"the end of {job}'s pod was not noticed in {_NOTICE_SECONDS:.0f} s")
        await asyncio.sleep(0.01)
    noticed = seen.succeeded[job] - began
    await asyncio.sleep(_PAUSE_SECONDS)
    return round(seen.completed.get(job, seen.succeeded[job]) - began, 4), round(noticed, 4)


def succeeded(status: Document) -> Document:
    """What a kubelet says of a pod whose containers have all ended well."""
    containers = [
        {
            **container,
            "ready": False,
            "started": False,
            "state": {
                "terminated": {
                    "exitCode": 0,
                    "reason": "Completed",
                    "startedAt": status["startTime"],
                    "finishedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                }
            },
        }
        for container in status["containerStatuses"]
    ]
    return {"phase": "Succeeded", "containerStatuses": containers}


async def _restart(
    installation: Installation, client: Client, name: str, jobs: Sequence[str], seen: Seen, how: str
) -> Restart:
    """Ends all workers at once; returns when every job is watched by one of the new ones."""
    await installation.find_processes()
    before = await beginning(installation)
    others = {who: processes for who, processes in installation.processes.items() if who != "worker"}
    ended = time.time()
    for pod in await installation.pods_of("worker"):
        path = f"/api/v1/namespaces/{SYSTEM}/pods/{pod['metadata']['name']}"
        await installation.api.delete(path, grace_seconds=HOW[how])
    again = await _watched(
        client, name, jobs, seen, ended, time.monotonic() + _LEAST_SECONDS + _SECONDS_PER_JOB * len(jobs)
    )
    installation.processes = others
    after = await end_of(installation)
    await _workers_are_back(installation)
    asked = requests.between(before.reading.requests, after.reading.requests)
    return Restart(
        how=how,
        again=again,
        cpu_seconds={
            who: round(usage.cpu_seconds - before.reading.usage[who].cpu_seconds, 3)
            for who, usage in after.reading.usage.items()
        },
        requests={str(kind): times for kind, times in sorted(asked.items())},
    )


async def _workers_are_back(installation: Installation) -> None:
    """Until there are as many as wanted, all ready, and none of the old ones."""
    deadline = time.monotonic() + _LEAST_SECONDS
    while time.monotonic() < deadline:
        deployment = await installation.worker_deployment()
        status, wanted = deployment["status"], deployment["spec"]["replicas"]
        if status.get("readyReplicas", 0) == wanted == len(await installation.pods_of("worker")):
            return
        await asyncio.sleep(_LOOK_SECONDS)
    raise BenchError(f"the workers are not back {_LEAST_SECONDS:.0f} s after they were ended")


async def _watched(
    client: Client, name: str, jobs: Sequence[str], seen: Seen, since: float, deadline: float
) -> list[float]:
    """Until the monitor of every job was begun after a moment; seconds from that moment to each one's begin, in order.

    Temporal itself tells when a worker took a monitor up. A few are asked every second; when these are all done,
    everyone is asked.

    Raises:
        BenchError: some are not in time.
    """
    waiting = [names.workflow_id(name, job, seen.uids[job]) for job in jobs]
    begun: dict[str, float] = {}
    while waiting:
        if time.monotonic() > deadline:
            raise BenchError(f"{len(waiting)} of {len(jobs)} jobs are not watched in time, such as {waiting[0]}")
        sample = waiting[:: max(1, len(waiting) // _SAMPLE)][:_SAMPLE]
        found = await _begun(client, sample, since)
        if len(found) == len(sample):
            found |= await _begun(client, [each_ for each_ in waiting if each_ not in found], since)
        begun |= found
        waiting = [each_ for each_ in waiting if each_ not in found]
        if waiting:
            await asyncio.sleep(_LOOK_SECONDS)
    return sorted(round(moment - since, 3) for moment in begun.values())


async def _begun(client: Client, workflows: Sequence[str], since: float) -> dict[str, float]:
    """When the monitors of workflows were begun, of those that run and were begun after a moment."""
    found: dict[str, float] = {}

    async def ask(document: Document) -> None:
        described = await client.get_workflow_handle(document["id"]).describe()
        for activity in described.raw_description.pending_activities:
            moment = activity.last_started_time.ToMicroseconds() / 1e6
            runs = activity.state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
            if activity.activity_type.name == ActivityName.MONITOR_TRAINING and runs and moment >= since:
                found[document["id"]] = moment

    await each([{"id": workflow} for workflow in workflows], ask)
    return found
