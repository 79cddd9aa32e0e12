"""TrainingJobs that workflows make: what is asked of the API server, and what its answers become."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from perdure_api import names
from perdure_api.spec import TrainingJobSpec
from perdure_api.status import ResultStatus
from perdure_api.workflow import JobRef
from perdure_control.cluster import Cluster, ClusterUnavailable
from perdure_control.statuses import TRAINING_JOBS
from perdure_workers.activities.training_jobs import TrainingJobActivities
from perdure_workers.messages import CancelTrainingJob, FollowTrainingJob, SubmitTrainingJob
from tests.api_stand_in import answered_by

Document = dict[str, Any]
SPEC = TrainingJobSpec.from_wire({"trainer": {"image": "i", "command": ["true"]}})
SUBMIT = SubmitTrainingJob(namespace="ns", name="job", spec=SPEC, made_by="fine_tune-1")
FOLLOW = FollowTrainingJob(job=JobRef(namespace="ns", name="job", uid="u"))
CANCEL = CancelTrainingJob(namespace="ns", name="job", made_by="fine_tune-1")
PATH = TRAINING_JOBS.path("ns", "job")
AT = "2026-11-22T12:00:00Z"


def finished(status: str, reason: str, message: str = "", **more: Any) -> Document:
    condition = {"type": "Succeeded", "status": status, "reason": reason, "message": message, "lastTransitionTime": AT}
    return {"reason": reason, "message": message, "conditions": [condition], **more}


@dataclass
class Objects:
    """An API server with at most one TrainingJob."""

    there: Document | None = None
    statuses: list[Document] = field(default_factory=list)
    """What each look finds; the last one repeats."""
    refuses: tuple[int, str] | None = None
    patched: list[Document] = field(default_factory=list)
    looks: int = 0

    def put(self, made_by: str | None = "fine_tune-1", uid: str = "u") -> None:
        annotations = {names.ANNOTATION_MADE_BY: made_by} if made_by else {}
        self.there = {"metadata": {"name": "job", "namespace": "ns", "uid": uid, "annotations": annotations}}

    async def answer(self, request: web.Request) -> web.Response:
        if self.refuses:
            return web.json_response({"message": self.refuses[1]}, status=self.refuses[0])
        match request.method:
            case "POST" if self.there is None:
                made = await request.json()
                made["metadata"] |= {"uid": "u", "generation": 1, "namespace": "ns"}
                self.there = made
                return web.json_response(made, status=201)
            case "POST":
                return web.json_response({"message": "already exists", "reason": "AlreadyExists"}, status=409)
            case "GET" if self.there is not None and request.path == PATH:
                self.looks += 1
                if self.statuses:
                    status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
                    return web.json_response({**self.there, "status": status})
                return web.json_response(self.there)
            case "PATCH" if self.there is not None:
                assert request.content_type == "application/merge-patch+json"
                self.patched.append(await request.json())
                return web.json_response(self.there)
        return web.json_response({"message": "not found"}, status=404)


@asynccontextmanager
async def serving(objects: Objects) -> AsyncIterator[Cluster]:
    """A connection to it."""
    async with answered_by(objects.answer) as cluster:
        yield cluster


@asynccontextmanager
async def activities(objects: Objects) -> AsyncIterator[TrainingJobActivities]:
    async with serving(objects) as cluster:
        yield TrainingJobActivities(cluster, first_pause_seconds=0.01)


async def submit(objects: Objects) -> JobRef:
    async with activities(objects) as ours:
        return await ActivityEnvironment().run(ours.submit_training_job, SUBMIT)


async def follow(objects: Objects) -> ResultStatus:
    async with activities(objects) as ours:
        return await ActivityEnvironment().run(ours.follow_training_job, FOLLOW)


async def cancel(objects: Objects) -> None:
    async with activities(objects) as ours:
        await ActivityEnvironment().run(ours.cancel_training_job, CANCEL)


class TestMaking:
    async def test_a_manifest_that_says_who_made_it_is_created(self) -> None:
        objects = Objects()

        assert await submit(objects) == JobRef(namespace="ns", name="job", uid="u", generation=1)

        assert objects.there == {
            "apiVersion": "perdure.dev/v1alpha1",
            "kind": "TrainingJob",
            "metadata": {
                "name": "job",
                "namespace": "ns",
                "uid": "u",
                "generation": 1,
                "annotations": {"perdure.dev/made-by": "fine_tune-1"},
            },
            "spec": json.loads(json.dumps(SPEC.to_wire())),
        }

    async def test_one_that_the_same_workflow_has_made_is_as_good(self) -> None:
        objects = Objects()
        objects.put(uid="made-before")

        assert (await submit(objects)).uid == "made-before"

    @pytest.mark.parametrize(
        ("maker", "says"),
        [
            ("fine_tune-2", "the workflow fine_tune-2 has made it; choose another name, or delete it"),
            (None, "no workflow has made it; choose another name, or delete it"),
        ],
        ids=["another workflow's", "a person's"],
    )
    async def test_one_that_somebody_else_has_made_is_left_alone(self, maker: str | None, says: str) -> None:
        objects = Objects()
        objects.put(made_by=maker)

        with pytest.raises(ApplicationError) as raised:
            await submit(objects)

        assert (raised.value.type, raised.value.non_retryable) == ("JobRefused", True)
        assert raised.value.message == f"there is a TrainingJob ns/job already, and {says}"

    @pytest.mark.parametrize(
        ("status", "type_"), [(422, "InvalidSpec"), (403, "JobRefused"), (404, "JobRefused")],
        ids=["the schema", "no right", "no namespace"],
    )  # fmt: skip
    async def test_a_refusal_is_told_and_not_tried_again(self, status: int, type_: str) -> None:
        with pytest.raises(ApplicationError) as raised:
            await submit(Objects(refuses=(status, "no, because")))

        assert (raised.value.type, raised.value.non_retryable) == (type_, True)
        assert raised.value.message == "the API server refuses TrainingJob ns/job: no, because"

    async def test_an_api_server_that_is_away_is_tried_again(self) -> None:
        with pytest.raises(ClusterUnavailable):
            await submit(Objects(refuses=(503, "away")))


class TestFollowing:
    async def test_it_looks_until_the_job_has_succeeded_and_returns_its_result(self) -> None:
        result = {"adapterUri": "s3://b/adapter", "metrics": {"eval_loss": 2.0}}
        objects = Objects(statuses=[{}, {"phase": "Running"}, finished("True", "Completed", result=result)])
        objects.put()

        assert await follow(objects) == ResultStatus(adapter_uri="s3://b/adapter", metrics={"eval_loss": 2.0})
        assert objects.looks == 3

    async def test_a_job_without_a_result_document_has_an_empty_one(self) -> None:
        objects = Objects(statuses=[finished("True", "Completed")])
        objects.put()

        assert await follow(objects) == ResultStatus()

    async def test_a_job_that_did_not_succeed_is_told_in_its_own_sentence(self) -> None:
        objects = Objects(statuses=[finished("False", "OutOfMemory", "the container used more than its 16Gi")])
        objects.put()

        with pytest.raises(ApplicationError) as raised:
            await follow(objects)

        assert (raised.value.type, raised.value.non_retryable) == ("OutOfMemory", True)
        assert raised.value.message == (
            "TrainingJob ns/job did not succeed (OutOfMemory): the container used more than its 16Gi"
        )

    async def test_a_reason_of_a_newer_release_is_told_too(self) -> None:
        objects = Objects(statuses=[finished("False", "MoonTooBright", "it shines")])
        objects.put()

        with pytest.raises(ApplicationError, match=r"did not succeed \(MoonTooBright\): it shines") as raised:
            await follow(objects)

        assert raised.value.type == "Failed"

    @pytest.mark.parametrize("uid", [None, "another"], ids=["gone", "another of its name"])
    async def test_a_job_that_was_deleted_is_waited_for_no_longer(self, uid: str | None) -> None:
        objects = Objects(statuses=[{}])
        if uid:
            objects.put(uid=uid)

        with pytest.raises(ApplicationError, match="TrainingJob ns/job was deleted before it was finished") as raised:
            await follow(objects)

        assert (raised.value.type, raised.value.non_retryable) == ("Cancelled", True)

    async def test_each_look_without_an_end_is_a_heartbeat(self) -> None:
        objects = Objects(statuses=[{}, {}, finished("True", "Completed")])
        objects.put()
        environment = ActivityEnvironment()
        beats: list[Any] = []
        environment.on_heartbeat = lambda *details: beats.append(details)

        async with activities(objects) as ours:
            await environment.run(ours.follow_training_job, FOLLOW)

        assert len(beats) == 2

    async def test_a_worker_that_stops_hands_it_over_at_once(self) -> None:
        objects = Objects(statuses=[{}])
        objects.put()
        environment = ActivityEnvironment()
        environment.worker_shutdown()

        async with activities(objects) as ours:
            with pytest.raises(ApplicationError, match="this worker is stopping") as raised:
                await environment.run(ours.follow_training_job, FOLLOW)

        assert not raised.value.non_retryable


class TestCancelling:
    async def test_the_object_that_the_workflow_made_is_asked_to_end(self) -> None:
        objects = Objects()
        objects.put()

        await cancel(objects)

        assert objects.patched == [{"metadata": {"uid": "u", "annotations": {"perdure.dev/cancel": "true"}}}]

    @pytest.mark.parametrize("maker", ["fine_tune-2", None], ids=["another workflow's", "a person's"])
    async def test_one_of_somebody_else_goes_on(self, maker: str | None) -> None:
        objects = Objects()
        objects.put(made_by=maker)

        await cancel(objects)

        assert objects.patched == []

    async def test_where_there_is_none_there_is_nothing_to_do(self) -> None:
        await cancel(Objects())
