"""Status writes against a real API server, where several writers own parts of one object."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
import pytest_asyncio

from perdure_api import names
from perdure_api.conditions import ConditionType, Reason
from perdure_api.events import EventKind, EventNote
from perdure_api.status import CheckpointStatus, ProgressStatus, TrainingJobStatus
from perdure_api.workflow import JobRef
from perdure_control.cluster import Cluster, Invalid
from perdure_control.statuses import EventSource, Written, apply_status, namespace_ends, read_status, record_event
from perdure_workers.activities.publishing import PublishingActivities
from perdure_workers.attempts.outcome import Outcome
from perdure_workers.messages import AttemptEnd, Collected, PublishStatus
from perdure_workers.progress.board import ProgressBoard, Told
from perdure_workers.progress.writer import ProgressWriter
from perdure_workers.story import Story, rfc3339
from perdure_workers.watching.facts import AttemptKey
from tests.conftest import ApiServer

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest_asyncio.fixture(loop_scope="module")
async def cluster(api_server: ApiServer) -> AsyncIterator[Cluster]:
    async with await Cluster.connect("tests", kubeconfig=str(api_server.kubeconfig)) as cluster:
        yield cluster


def create(api_server: ApiServer, name: str) -> JobRef:
    document = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": name},
        "spec": {"trainer": {"image": "i", "command": ["true"]}},
    }
    api_server.kubectl("create", "-f", "-", document=document)
    metadata = json.loads(api_server.kubectl("get", "trainingjob", name, "-o", "json"))["metadata"]
    return JobRef(namespace=metadata["namespace"], name=name, uid=metadata["uid"], generation=1)


def conditions(api_server: ApiServer, name: str) -> dict[str, str]:
    status = json.loads(api_server.kubectl("get", "trainingjob", name, "-o", "json"))["status"]
    return {condition["type"]: condition["status"] for condition in status["conditions"]}


def waiting_for_temporal() -> dict[str, Any]:
    condition = {
        "type": ConditionType.RECONCILING,
        "status": "True",
        "reason": Reason.TEMPORAL_UNAVAILABLE,
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "observedGeneration": 1,
    }
    return {"conditions": [condition], "observedGeneration": 1}


async def test_a_job_ends_although_the_operator_owns_a_part_of_a_condition(
    cluster: Cluster, api_server: ApiServer
) -> None:
    job = create(api_server, "shared")
    await apply_status(cluster, job, waiting_for_temporal(), manager=names.FIELD_MANAGER_OPERATOR)
    story = Story.begin(job, "run", NOW)
    await apply_status(cluster, job, story.status.to_wire(), manager=names.FIELD_MANAGER_WORKFLOW)
    story.attempt_started(NOW)
    await apply_status(cluster, job, story.status.to_wire(), manager=names.FIELD_MANAGER_WORKFLOW)

    story.succeeded(Collected(), NOW)
    written = await apply_status(cluster, job, story.status.to_wire(), manager=names.FIELD_MANAGER_WORKFLOW)

    assert written is Written.WRITTEN
    found = conditions(api_server, "shared")
    assert (found["Succeeded"], found["Reconciling"], found["Running"]) == ("True", "False", "False")


async def test_a_late_writer_does_not_wake_a_finished_job(cluster: Cluster, api_server: ApiServer) -> None:
    job = create(api_server, "late")
    story = Story.begin(job, "run", NOW)
    story.failed(Reason.CANCELLED, "cancelled", NOW)
    await apply_status(cluster, job, story.status.to_wire(), manager=names.FIELD_MANAGER_WORKFLOW)

    late = {"phase": "Running", "reason": "PodRunning", "message": "runs"}
    written = await apply_status(cluster, job, late, manager=names.FIELD_MANAGER_MONITOR)

    assert written is Written.FINAL
    assert conditions(api_server, "late")["Succeeded"] == "False"


async def test_progress_that_is_told_late_changes_nothing_of_a_finished_job(
    cluster: Cluster, api_server: ApiServer
) -> None:
    job = create(api_server, "told-late")
    story = Story.begin(job, "run", NOW)
    story.failed(Reason.CANCELLED, "cancelled", NOW)
    await apply_status(cluster, job, story.status.to_wire(), manager=names.FIELD_MANAGER_WORKFLOW)
    board = ProgressBoard()
    writer = ProgressWriter(cluster, board, 1)
    key = AttemptKey(job.namespace, job.uid, 1)
    board.put(key, Told(job, ProgressStatus(step=9, last_updated=rfc3339(NOW)), None))
    writer.told(key)
    await writer.flush(key)

    shown = await read_status(cluster, job)
    assert shown
    assert shown.progress is None


@pytest.mark.parametrize(
    ("name", "said", "shown"),
    [
        ("emoji", "GLHF! \U0001f3d6\ufe0f", "GLHF! \U0001f3d6\ufe0f"),
        ("like-an-escape", "größer, \\ud83c and \\", "größer, \\ud83c and \\"),
        (
            "odd-to-yaml",
            "a\tb\x7f\x85\u2028\ufeff\uffff: - # \"c\" 'd'",
            "a\tb\x7f\x85\u2028\ufeff\uffff: - # \"c\" 'd'",
        ),
    ],
)
async def test_whatever_a_trainer_said_last_is_told_as_it_was(
    cluster: Cluster, api_server: ApiServer, name: str, said: str, shown: str
) -> None:
    job = create(api_server, f"said-{name}")
    story = Story.begin(job, "run", NOW)
    story.failed(Reason.FAILED, said, NOW)

    await apply_status(cluster, job, story.status.to_wire(), manager=names.FIELD_MANAGER_WORKFLOW)

    told = await read_status(cluster, job)
    assert told
    assert told.message == shown


async def test_what_a_workflow_told_before_does_not_come_back(cluster: Cluster, api_server: ApiServer) -> None:
    job = create(api_server, "held-up")
    publish = PublishingActivities(cluster, SOURCE).publish_status
    story = Story.begin(job, "run", NOW)
    story.attempt_started(NOW)
    before = PublishStatus(job=job, status=story.status_as_of(NOW))
    await publish(before)
    story.attempt_started(NOW)
    await publish(PublishStatus(job=job, status=story.status_as_of(NOW + timedelta(microseconds=1))))

    await publish(before)

    shown = await read_status(cluster, job)
    assert shown
    assert shown.attempt_counters == story.counters


async def test_times_that_were_told_stay_when_a_replayed_workflow_comes_to_others(
    cluster: Cluster, api_server: ApiServer
) -> None:
    job = create(api_server, "replayed")
    publish = PublishingActivities(cluster, SOURCE).publish_status
    end = AttemptEnd(outcome=Outcome(reason=Reason.DISRUPTED, message="its node is gone"))
    for late in (timedelta(), timedelta(seconds=8)):
        story = Story.begin(job, "run", NOW + late)
        story.attempt_started(NOW + late)
        story.attempt_ended(end, NOW + late + timedelta(minutes=1))
        if late:
            story.attempt_started(NOW + timedelta(minutes=2))
        await publish(PublishStatus(job=job, status=story.status_as_of(NOW + late)))

    shown = await read_status(cluster, job)
    assert shown
    assert shown.start_time == rfc3339(NOW)
    assert [(each.start_time, each.end_time) for each in shown.attempts] == [
        (rfc3339(NOW), rfc3339(NOW + timedelta(minutes=1))),
        (rfc3339(NOW + timedelta(minutes=2)), None),
    ]


async def test_an_attempt_that_was_told_stays_when_the_same_run_goes_its_way_again_and_comes_to_it(
    cluster: Cluster, api_server: ApiServer
) -> None:
    job = create(api_server, "again")
    publish = PublishingActivities(cluster, SOURCE).publish_status
    end = AttemptEnd(outcome=Outcome(reason=Reason.DISRUPTED, message="its node is gone"))
    counts = []
    for late in (timedelta(), timedelta(seconds=20)):
        story = Story.begin(job, "run", NOW)
        for number in (1, 2):
            story.attempt_started(NOW)
            await publish(PublishStatus(job=job, status=story.status_as_of(NOW + late)))
            shown = await read_status(cluster, job)
            assert shown
            assert shown.attempt_counters
            counts.append((shown.attempt_counters.started, len(shown.attempts)))
            if number == 1:
                story.attempt_ended(end, NOW)

    assert counts == [(1, 1), (2, 2), (2, 2), (2, 2)]


async def test_a_workflow_that_was_reset_tells_of_as_many_attempts_as_it_knows(
    cluster: Cluster, api_server: ApiServer
) -> None:
    job = create(api_server, "reset")
    publish = PublishingActivities(cluster, SOURCE).publish_status
    for run, attempts in (("run", 2), ("run-after-the-reset", 1)):
        story = Story.begin(job, run, NOW)
        for _ in range(attempts):
            story.attempt_started(NOW)
        await publish(PublishStatus(job=job, status=story.status_as_of(NOW)))

    shown = await read_status(cluster, job)
    assert shown
    assert shown.attempt_counters
    assert (shown.attempt_counters.started, len(shown.attempts)) == (1, 1)


async def test_an_attempt_that_has_saved_nothing_yet_shows_the_checkpoint_of_the_one_before(
    cluster: Cluster, api_server: ApiServer
) -> None:
    job = create(api_server, "goes-on")
    board = ProgressBoard()
    writer = ProgressWriter(cluster, board, 1)
    saved = CheckpointStatus(uri="s3://b/c", step=10, time="2026-01-01T00:00:00Z")
    for attempt, checkpoint in ((1, saved), (2, None)):
        key = AttemptKey(job.namespace, job.uid, attempt)
        progress = ProgressStatus(step=10 + attempt, last_updated=f"2026-01-01T00:00:0{attempt}Z")
        board.put(key, Told(job, progress, checkpoint))
        writer.told(key)
        await writer.flush(key)

    shown = await read_status(cluster, job)
    assert shown
    assert shown.progress
    assert (shown.progress.step, shown.checkpoint) == (12, saved)


async def test_a_worker_that_heard_of_an_older_checkpoint_does_not_take_back_the_newer_one(
    cluster: Cluster, api_server: ApiServer
) -> None:
    """Within a second: the trainer told one worker of its last save, and the other follows its end."""
    job = create(api_server, "saved-last")
    for step in (446, 410):
        board = ProgressBoard()
        writer = ProgressWriter(cluster, board, 1)
        key = AttemptKey(job.namespace, job.uid, 1)
        uri = f"s3://b/runs/{job.uid}/attempts/1/checkpoints/step-{step}"
        saved = CheckpointStatus(uri=uri, step=step, time="2026-01-01T00:00:00Z")
        board.put(key, Told(job, ProgressStatus(step=446, last_updated="2026-01-01T00:00:01Z"), saved))
        writer.told(key)
        await writer.flush(key)

    shown = await read_status(cluster, job)
    assert shown
    assert shown.checkpoint
    assert shown.checkpoint.step == 446


class HeldUp(Cluster):
    """Something happens each time between looking and writing, until nothing is left to happen."""

    happens: ClassVar[list[Callable[[], Awaitable[object]]]] = []

    async def get(self, path: str, **query: str | int) -> dict[str, Any]:
        document = await super().get(path, **query)
        if self.happens:
            await self.happens.pop()()
        return document


async def test_whoever_was_held_up_after_looking_looks_again(cluster: Cluster, api_server: ApiServer) -> None:
    job = create(api_server, "raced")
    story = Story.begin(job, "run", NOW)
    story.attempt_started(NOW)
    older = story.status_as_of(NOW)
    story.attempt_started(NOW)
    newer = PublishStatus(job=job, status=story.status_as_of(NOW + timedelta(seconds=1)))

    async with await HeldUp.connect("tests", kubeconfig=str(api_server.kubeconfig)) as held_up:
        HeldUp.happens[:] = [lambda: PublishingActivities(cluster, SOURCE).publish_status(newer)]
        await PublishingActivities(held_up, SOURCE).publish_status(PublishStatus(job=job, status=older))

    assert HeldUp.happens == []
    shown = await read_status(cluster, job)
    assert shown
    assert shown.attempt_counters == story.counters


async def test_a_status_that_was_wiped_is_whole_again_with_the_next_write(
    cluster: Cluster, api_server: ApiServer
) -> None:
    job = create(api_server, "wiped")
    story = Story.begin(job, "run", NOW)
    story.attempt_started(NOW)
    await apply_status(cluster, job, story.status.to_wire(), manager=names.FIELD_MANAGER_WORKFLOW)
    patch = ["patch", "trainingjob", "wiped", "--subresource=status", "--type=merge", "-p", '{"status": null}']
    api_server.kubectl(*patch)
    assert conditions(api_server, "wiped") == {"Reconciling": "True"}

    story.retrying(10, NOW)
    await apply_status(cluster, job, story.status.to_wire(), manager=names.FIELD_MANAGER_WORKFLOW)

    shown = await read_status(cluster, job)
    assert shown
    assert (shown.attempts, shown.attempt_counters) == (story.status.attempts, story.status.attempt_counters)
    assert conditions(api_server, "wiped").keys() == {"Accepted", "Running", "Succeeded", "Reconciling"}


async def test_what_others_wrote_stays_where_only_an_event_is_told(cluster: Cluster, api_server: ApiServer) -> None:
    job = create(api_server, "told-of")
    publish = PublishingActivities(cluster, SOURCE).publish_status
    status = Story.begin(job, "run", NOW).status
    await publish(PublishStatus(job=job, status=status))
    runs = {"phase": "Running", "reason": "PodRunning", "message": "attempt 1: pod p runs on node n"}
    await apply_status(cluster, job, runs, manager=names.FIELD_MANAGER_MONITOR)
    note = EventNote(kind=EventKind.NORMAL, reason=Reason.CHECKPOINT_ASKED, message="a checkpoint was asked for")

    await publish(PublishStatus(job=job, status=status, notes=[note], notes_only=True))

    told = json.loads(api_server.kubectl("get", "trainingjob", "told-of", "-o", "json"))["status"]
    assert {name: told[name] for name in runs} == runs
    assert "a checkpoint was asked for" in api_server.kubectl("get", "events")


async def test_that_a_newer_spec_is_known_is_told_of_an_attempt_that_runs_and_is_never_taken_back(
    cluster: Cluster, api_server: ApiServer
) -> None:
    job = create(api_server, "known")
    publish = PublishingActivities(cluster, SOURCE).publish_status
    status = Story.begin(job, "run", NOW).status
    await publish(PublishStatus(job=job, status=status))
    runs = {"phase": "Running", "reason": "PodRunning", "message": "attempt 1: pod p runs on node n"}
    await apply_status(cluster, job, runs, manager=names.FIELD_MANAGER_MONITOR)

    for generation in (7, 6):
        known = TrainingJobStatus(observed_generation=generation)
        await publish(PublishStatus(job=job, status=known, acknowledgement_only=True))

    told = json.loads(api_server.kubectl("get", "trainingjob", "known", "-o", "json"))["status"]
    assert {name: told[name] for name in runs} == runs
    assert told["observedGeneration"] == 7
    assert told["attemptCounters"]
    await publish(PublishStatus(job=job, status=status.model_copy(update={"observed_generation": 8})))
    told = json.loads(api_server.kubectl("get", "trainingjob", "known", "-o", "json"))["status"]
    assert told["observedGeneration"] == 8


async def test_another_object_of_the_same_name_is_left_alone(cluster: Cluster, api_server: ApiServer) -> None:
    job = create(api_server, "namesake").model_copy(update={"uid": "00000000-0000-0000-0000-000000000000"})

    written = await apply_status(cluster, job, waiting_for_temporal(), manager=names.FIELD_MANAGER_WORKFLOW)

    assert written is Written.GONE
    assert conditions(api_server, "namesake") == {"Reconciling": "True"}


async def test_an_object_that_is_gone_stays_gone(cluster: Cluster) -> None:
    job = JobRef(namespace="default", name="nobody", uid="u", generation=1)

    written = await apply_status(cluster, job, waiting_for_temporal(), manager=names.FIELD_MANAGER_WORKFLOW)

    assert written is Written.GONE


async def test_a_status_that_is_none_is_refused_not_dropped(cluster: Cluster, api_server: ApiServer) -> None:
    job = create(api_server, "nonsense")

    with pytest.raises(Invalid, match="attemptCounters"):
        await apply_status(cluster, job, {"attemptCounters": {"started": -1}}, manager=names.FIELD_MANAGER_WORKFLOW)


async def test_a_status_is_read_as_it_was_written(cluster: Cluster, api_server: ApiServer) -> None:
    job = create(api_server, "read")
    await apply_status(cluster, job, waiting_for_temporal(), manager=names.FIELD_MANAGER_OPERATOR)

    status = await read_status(cluster, job)

    assert status
    assert [condition.reason for condition in status.conditions] == [Reason.TEMPORAL_UNAVAILABLE]


@pytest.mark.parametrize("change", [{"name": "nobody"}, {"uid": "another"}], ids=["gone", "a namesake"])
async def test_what_is_not_there_has_no_status(cluster: Cluster, api_server: ApiServer, change: dict[str, str]) -> None:
    job = create(api_server, f"asked-for-{next(iter(change))}").model_copy(update=change)

    assert await read_status(cluster, job) is None


SAID = EventNote(kind=EventKind.WARNING, reason=Reason.JOB_REFUSED, message="exceeded quota " + "x" * 2000)
SOURCE = EventSource("perdure-worker", "worker-1")


async def test_an_event_is_recorded_on_its_object_once_for_each_occasion_however_often_it_is_told(
    cluster: Cluster, api_server: ApiServer
) -> None:
    job = create(api_server, "eventful")

    for _ in range(2):
        await record_event(cluster, job, SAID, SOURCE)
    await record_event(cluster, job, SAID.model_copy(update={"message": "something else"}), SOURCE)
    for occasion in ("3", "5", "5"):
        again = SAID.model_copy(update={"message": "the same words", "occasion": occasion})
        await record_event(cluster, job, again, SOURCE)

    selector = f"involvedObject.uid={job.uid},involvedObject.kind=TrainingJob,involvedObject.name=eventful"
    found = json.loads(api_server.kubectl("get", "events", "--field-selector", selector, "-o", "json"))["items"]
    messages = sorted(event["message"] for event in found)
    assert messages == [("exceeded quota " + "x" * 2000)[:1024], "something else", *["the same words"] * 2]
    assert {(event["type"], event["reason"], event["count"]) for event in found} == {("Warning", "JobRefused", 1)}
    assert {event["source"]["component"] for event in found} == {"perdure-worker"}
    assert {event["reportingInstance"] for event in found} == {"worker-1"}


async def test_an_event_in_a_namespace_that_goes_or_is_gone_is_no_error(
    cluster: Cluster, api_server: ApiServer
) -> None:
    api_server.kubectl("create", "namespace", "leaving")  # no controller here ever lets it go
    api_server.kubectl("delete", "namespace", "leaving", "--wait=false")

    for namespace in ("leaving", "nowhere"):
        job = JobRef(namespace=namespace, name="j", uid="u", generation=1)
        await record_event(cluster, job, SAID, SOURCE)

    assert json.loads(api_server.kubectl("get", "events", "-n", "leaving", "-o", "json"))["items"] == []


@pytest.mark.parametrize("refused", ["attempt", "generation", "queue"])
async def test_a_status_that_the_api_server_refuses_still_says_how_the_job_ended(
    cluster: Cluster, api_server: ApiServer, refused: str
) -> None:
    job = create(api_server, f"refused-{refused}")
    story = Story.begin(job, "run", NOW)
    story.attempt_started(NOW)
    story.failed(Reason.FAILED, "it did not work \U0001f3d6", NOW)
    status = story.status
    if refused == "attempt":
        attempt = status.attempts[0].model_copy(update={"from_step": -1})
        status = status.model_copy(update={"attempts": [attempt]})
    if refused == "generation":
        absurd = [each.model_copy(update={"observed_generation": -1}) for each in status.conditions]
        status = status.model_copy(update={"observed_generation": -1, "conditions": absurd})
    if refused == "queue":
        status = status.model_copy(update={"kueue_queue": "q" * 64})
    with pytest.raises(Invalid):
        await apply_status(cluster, job, status.to_wire(), manager=names.FIELD_MANAGER_WORKFLOW)

    publishing = PublishingActivities(cluster, EventSource("tests", "tests"))
    await publishing.publish_status(PublishStatus(job=job, status=status))

    shown = await read_status(cluster, job)
    assert shown is not None
    assert (shown.phase, shown.message, shown.attempts) == ("Failed", "it did not work ?", [])


async def test_whether_a_namespace_is_being_deleted_is_asked_without_a_trace(
    cluster: Cluster, api_server: ApiServer
) -> None:
    api_server.kubectl("create", "namespace", "short")
    job = JobRef(namespace="short", name="job", uid="u", generation=1)
    source = EventSource("tests", "here")

    before = await namespace_ends(cluster, job, source)
    api_server.kubectl("delete", "namespace", "short", "--wait=false")
    after = await namespace_ends(cluster, job, source)

    assert (before, after) == (False, True)
    assert json.loads(api_server.kubectl("get", "events", "-n", "short", "-o", "json"))["items"] == []
