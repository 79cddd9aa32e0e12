"""So much of an API server as one monitor needs, over real HTTP, at any time that a test says it is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from perdure_api import names
from perdure_api.workflow import JobRef
from perdure_control.cluster import JOBS, Answered, Cluster
from perdure_control.statuses import TRAINING_JOBS
from tests.api_stand_in import answered_by

Document = dict[str, Any]
JOB = JobRef(namespace="ns", name="job", uid="u", generation=1)


class SmallCluster:
    """One TrainingJob, and whatever else is put here, by path."""

    def __init__(self) -> None:
        metadata = {"name": JOB.name, "namespace": JOB.namespace, "uid": JOB.uid, "resourceVersion": "1"}
        self.trainingjob: Document = {"metadata": metadata, "status": {}}
        self.documents = {TRAINING_JOBS.path(JOB.namespace, JOB.name): self.trainingjob}
        self.asked: list[str] = []
        """Method and path of each request."""
        self.is_away = False
        self.loses_answers = False
        """It does what it is asked, and nobody hears of it."""
        self.refuses_to_delete = False
        self.changed = asyncio.Event()
        """Set with each request; those who wait for a condition clear it."""

    @property
    def status(self) -> Document:
        status: Document = self.trainingjob["status"]
        return status

    def put_job(self, attempt: int) -> Document:
        """The Job of an attempt."""
        document = {"metadata": metadata_of(attempt, names.job_name(JOB.name, attempt), owner=JOB.uid)}
        self.documents[JOBS.path(JOB.namespace, document["metadata"]["name"])] = document
        return document

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(f"{request.method} {request.path}")
        answer = await self._answer(request)
        self.changed.set()
        if self.loses_answers and request.method != "GET":
            return web.json_response({"message": "timed out"}, status=504)
        return answer

    async def _answer(self, request: web.Request) -> web.Response:
        if self.is_away or (self.refuses_to_delete and request.method == "DELETE"):
            return web.json_response({"message": "away"}, status=503)
        whole = request.path.removesuffix("/status")
        found = self.documents.get(whole)
        match request.method:
            case "GET" if found:
                return web.json_response(found)
            case "PATCH" if found:
                found["status"] |= (await request.json())["status"]
                return web.json_response(found)
            case "DELETE" if found:
                meant = (await request.json()).get("preconditions", {}).get("uid")
                if meant not in {None, found["metadata"]["uid"]}:
                    return web.json_response({"message": f"the uid is not {meant}"}, status=409)
                return web.json_response(self.documents.pop(whole))
            case "POST":
                return web.json_response(await request.json(), status=201)
        return web.json_response({"message": "not found"}, status=404)


def metadata_of(attempt: int, name: str, owner: str, version: int = 1) -> Document:
    """Of a Job or a pod of an attempt."""
    return {
        "name": name,
        "namespace": JOB.namespace,
        "uid": f"uid-of-{name}",
        "resourceVersion": str(version),
        "labels": {names.LABEL_JOB_UID: JOB.uid, names.LABEL_ATTEMPT: str(attempt)},
        "annotations": {names.ANNOTATION_JOB_NAME: JOB.name},
        "ownerReferences": [
            {"kind": "Job", "name": names.job_name(JOB.name, attempt), "uid": owner, "controller": True}
        ],
    }


def pod_of(
    attempt: int, version: int = 1, *, rank: int = 0, silent: bool = False, words: Document | None = None
) -> Document:
    """A pod of an attempt: it runs, on a node that may not answer, or it has ended with these last words."""
    name = f"{names.job_name(JOB.name, attempt)}-{rank}"
    ready = {"type": "Ready", "status": "Unknown" if silent else "True"}
    ended = {"exitCode": 0, "reason": "Completed", "message": json.dumps(words)}
    state = {"running": {}} if words is None else {"terminated": ended}
    status = {
        "phase": "Running" if words is None else "Succeeded",
        "conditions": [ready, {"type": "ContainersReady", "status": "True"}],
        "containerStatuses": [{"name": "trainer", "state": state}],
    }
    metadata = metadata_of(attempt, name, f"uid-of-{names.job_name(JOB.name, attempt)}", version)
    metadata["annotations"][names.ANNOTATION_COMPLETION_INDEX] = str(rank)
    return {"metadata": metadata, "spec": {"nodeName": f"node-{attempt}"}, "status": status}


@asynccontextmanager
async def serving(small: SmallCluster, answered: Answered = lambda *_: None) -> AsyncIterator[Cluster]:
    """A connection to it."""
    async with answered_by(small.answer, counted=answered) as cluster:
        yield cluster
