"""Monitors of one TrainingJob beside each other: Temporal has given one up, and it knows nothing of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry, Counter
from temporalio.testing import ActivityEnvironment

from perdure_api import names
from perdure_api.conditions import Reason
from perdure_control.cluster import EVENTS, Cluster
from perdure_control.statuses import EventSource
from perdure_data.stores import Stores
from perdure_workers.activities import hindrance, monitoring
from perdure_workers.activities.monitoring import MonitorActivities
from perdure_workers.attempts.assess import OVERDUE_SECONDS
from perdure_workers.messages import AttemptEnd, Monitor
from perdure_workers.progress.board import ProgressBoard
from perdure_workers.progress.writer import ProgressWriter
from perdure_workers.watching.index import AttemptIndex
from tests.workers.small_cluster import JOB, Document, SmallCluster, pod_of, serving

SECONDS = 60
START_SECONDS = 600.0
LONG_AGO = 1_000_000_000.0
"""Unix seconds."""
IN_TIMES_TO_COME = 9_000_000_000.0
REQUESTS_OF_AN_END = 2
"""What the status shows of progress is read, and the last of it is written."""


class Monitoring:
    """A monitor that runs; nothing that Temporal would say reaches it."""

    def __init__(
        self,
        cluster: Cluster,
        index: AttemptIndex,
        attempt: int,
        progress_seconds: float | None,
        changed: asyncio.Event,
        began: float,
        waited: float,
        nodes: int,
    ) -> None:
        board = ProgressBoard()
        activities = MonitorActivities(
            cluster,
            index,
            board,
            ProgressWriter(cluster, board, 0.0),
            EventSource("tests", "one"),
            Stores(),
            Counter("ended", "", ["reason"], registry=CollectorRegistry()),
        )
        request = Monitor(
            job=JOB,
            attempt=attempt,
            job_name=names.job_name(JOB.name, attempt),
            started_at=began,
            start_seconds=START_SECONDS,
            progress_seconds=progress_seconds,
            nodes=nodes,
            fenced=True,
        )
        self.looks = 0
        self._changed = changed
        environment = ActivityEnvironment()
        environment.info = replace(environment.info, started_time=datetime.fromtimestamp(began + waited, UTC))
        environment.on_heartbeat = self._look
        self.end: asyncio.Task[AttemptEnd] = asyncio.create_task(environment.run(activities.monitor_training, request))

    def _look(self, *_: object) -> None:
        self.looks += 1
        self._changed.set()


class Beside:
    """Monitors that share what a process knows of the cluster."""

    def __init__(self, cluster: Cluster, small: SmallCluster) -> None:
        self.small = small
        self.index = AttemptIndex()
        self._cluster = cluster
        self._started: list[Monitoring] = []

    def begin(self, attempt: int, nodes: int = 1) -> None:
        """An attempt's Job and pods are there."""
        self.index.jobs.put(self.small.put_job(attempt))
        for rank in range(nodes):
            self.index.pods.put(pod_of(attempt, rank=rank))

    def monitor(
        self,
        attempt: int,
        progress_seconds: float | None = None,
        began: float = LONG_AGO,
        waited: float = 0,
        nodes: int = 1,
    ) -> Monitoring:
        """Follows an attempt that began, and that has waited for so many seconds, by Temporal's clock."""
        changed = self.small.changed
        monitoring = Monitoring(self._cluster, self.index, attempt, progress_seconds, changed, began, waited, nodes)
        self._started.append(monitoring)
        return monitoring

    async def sees(self, monitoring: Monitoring, pod: Document) -> None:
        """A pod changes, and a monitor has looked at it."""
        before = monitoring.looks
        self.index.pods.put(pod)
        await self.until(lambda: monitoring.looks > before)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS):
            while not holds():
                self.small.changed.clear()
                await self.small.changed.wait()

    def says(self, text: str) -> bool:
        message: str = self.small.status.get("message", "")
        return message == text

    def writes(self) -> list[str]:
        return [request for request in self.small.asked if not request.startswith("GET")]

    async def close(self) -> None:
        for each in self._started:
            each.end.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await each.end


def told_to_stop(rank: int) -> Document:
    """A pod that the Job controller has ended, because another one failed."""
    return killed(rank, exit_code=143)


def killed(rank: int = 0, exit_code: int = 137) -> Document:
    """A pod whose container ended without a word."""
    pod = pod_of(1, version=2, rank=rank, words={})
    pod["status"]["phase"] = "Failed"
    pod["status"]["containerStatuses"][0]["state"]["terminated"] = {"exitCode": exit_code, "reason": "Error"}
    return pod


@pytest.fixture
async def beside(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Beside]:
    monkeypatch.setattr(monitoring, "SETTLE_SECONDS", 0.0)
    small = SmallCluster()
    async with serving(small) as cluster:
        beside = Beside(cluster, small)
        yield beside
        await beside.close()


async def test_a_monitor_that_was_cut_off_says_nothing_once_a_newer_attempt_has_begun(beside: Beside) -> None:
    beside.begin(1)
    cut_off = beside.monitor(1)
    await beside.until(lambda: beside.says("attempt 1: pod job-1-0 runs on node node-1"))

    beside.begin(2)
    current = beside.monitor(2)
    await beside.until(lambda: beside.says("attempt 2: pod job-2-0 runs on node node-2"))
    written = beside.writes()
    await beside.sees(cut_off, pod_of(1, version=2, silent=True))
    await beside.sees(cut_off, pod_of(1, version=3))
    beside.index.pods.put(pod_of(1, version=4, words={"step": 999}))
    end = await cut_off.end

    assert end.outcome.reason is Reason.COMPLETED, "it ends by what it sees, for nobody"
    assert beside.writes() == written, "no status, no Event, no progress of the older attempt"
    beside.index.pods.put(pod_of(2, version=2, words={"step": 7}))
    assert (await current.end).to_step == 7
    assert beside.small.status["progress"]["step"] == 7


async def test_a_monitor_that_was_cut_off_ends_nothing_once_a_newer_attempt_has_begun(beside: Beside) -> None:
    beside.begin(1)
    beside.begin(2)
    cut_off = beside.monitor(1, progress_seconds=0.001)
    await beside.until(lambda: cut_off.looks > 0)
    await beside.sees(cut_off, pod_of(1, version=2, silent=True))
    await beside.sees(cut_off, pod_of(1, version=3))

    assert beside.writes() == []


async def test_two_monitors_of_one_attempt_come_to_the_same_end_and_touch_nothing(beside: Beside) -> None:
    beside.begin(1)
    both = [beside.monitor(1), beside.monitor(1)]
    await beside.until(lambda: all(each.looks for each in both))
    beside.index.pods.put(pod_of(1, version=2, words={"step": 7}))

    ends = [await each.end for each in both]
    assert ends[0] == ends[1].model_copy(update={"ended_at": ends[0].ended_at})
    assert (ends[0].outcome.reason, ends[0].to_step) == (Reason.COMPLETED, 7)
    assert not [request for request in beside.writes() if request.startswith("DELETE")]


@pytest.mark.parametrize("nodes", [1, 2, 64])
async def test_the_end_of_an_attempt_costs_as_much_as_that_of_one_node_however_many_it_has(
    beside: Beside, nodes: int
) -> None:
    """trainer#2000, trainer#2318: what is lost is one node of many, and all begin anew."""
    beside.begin(1, nodes)
    monitoring_ = beside.monitor(1, nodes=nodes)
    await beside.until(lambda: beside.says("attempt 1: pod job-1-0 runs on node node-1"))
    running = len(beside.small.asked)

    lost = pod_of(1, version=2, rank=nodes - 1)
    lost["status"] |= {"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory"}
    for rank in range(nodes - 1):
        beside.index.pods.put(told_to_stop(rank))
    beside.index.pods.put(lost)
    end = await monitoring_.end

    assert (end.outcome.reason, end.outcome.pod_remains) == (Reason.DISRUPTED, False)
    assert f"job-1-{nodes - 1}" in end.outcome.message
    assert len(beside.small.asked) - running <= REQUESTS_OF_AN_END


async def test_of_an_attempt_that_was_killed_the_steps_are_known_by_its_reports(beside: Beside) -> None:
    beside.begin(1)
    beside.small.status["progress"] = {"step": 9, "fromStep": 5, "lastUpdated": "2026-01-01T00:00:00Z"}
    monitoring_ = beside.monitor(1)
    await beside.until(lambda: monitoring_.looks > 0)
    beside.index.pods.put(killed())

    end = await monitoring_.end
    assert (end.outcome.reason, end.from_step, end.to_step) == (Reason.FAILED, 5, 9)


async def test_when_an_attempt_ended_is_told_by_temporals_clock(beside: Beside) -> None:
    beside.begin(1)
    monitoring_ = beside.monitor(1)
    beside.index.pods.put(pod_of(1, version=2, words={"step": 7}))

    end = await monitoring_.end
    assert end.ended_at is not None
    assert 0 <= end.ended_at - LONG_AGO < SECONDS, "this machine's own time is years later"


async def test_two_monitors_that_see_one_attempt_hang_end_it_once(beside: Beside) -> None:
    beside.begin(1)
    both = [beside.monitor(1, progress_seconds=0.001), beside.monitor(1, progress_seconds=0.001)]
    await beside.until(lambda: all(each.looks for each in both))
    for monitoring_ in both:
        await beside.sees(monitoring_, pod_of(1, version=2 + both.index(monitoring_), silent=True))
    await beside.until(lambda: "DELETE /apis/batch/v1/namespaces/ns/jobs/job-1" in beside.writes())
    beside.index.pods.put(pod_of(1, version=9, words={"step": 7}))

    ends = [await each.end for each in both]
    assert [end.outcome.reason for end in ends] == [Reason.HUNG, Reason.HUNG]
    assert beside.small.documents.keys() == {"/apis/perdure.dev/v1alpha1/namespaces/ns/trainingjobs/job"}


@pytest.mark.parametrize("began", [LONG_AGO, IN_TIMES_TO_COME], ids=["ahead", "behind"])
async def test_how_long_an_attempt_waits_for_its_pod_is_told_by_temporals_clock_however_wrong_the_workers_is(
    beside: Beside, began: float
) -> None:
    beside.index.jobs.put(beside.small.put_job(1))
    waiting = beside.monitor(1, began=began)
    overdue = beside.monitor(1, began=began, waited=START_SECONDS)

    end = await overdue.end
    await beside.until(lambda: waiting.looks > 0)

    assert (end.outcome.reason, end.outcome.pod_remains) == (Reason.FAILED, True)
    assert not waiting.end.done()


def event(reason: str, message: str, time: str, kind: str = "Warning") -> Document:
    return {"type": kind, "reason": reason, "message": message, "lastTimestamp": f"2026-01-01T00:{time}Z"}


async def test_why_a_pod_stays_on_its_way_is_told_in_its_nodes_words_once_and_when_its_time_is_over(
    beside: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hindrance, "ASK_SECONDS", 0.0)
    monkeypatch.setattr(monitoring, "LOOK_SECONDS", 0.02)
    beside.index.jobs.put(beside.small.put_job(1))
    starting = pod_of(1)
    starting["status"] = {"phase": "Pending", "conditions": []}
    beside.index.pods.put(starting)
    path = EVENTS.path(JOB.namespace)
    beside.small.documents[path] = {
        "items": [
            event("FailedScheduling", "0/2 nodes are available", "09:00"),
            event("FailedCreatePodSandBox", "no network for sandbox 1f3a", "01:00"),
            event("Scheduled", "assigned ns/job-1-0 to node-1", "08:00", "Normal"),
        ]
    }
    waiting = beside.monitor(1, waited=hindrance.SLOW_SECONDS)
    said = "pod job-1-0 is starting on node node-1: FailedCreatePodSandBox: no network for sandbox 1f3a"
    await beside.until(lambda: beside.says(said))
    again = event("FailedCreatePodSandBox", "no network for sandbox 77b2", "09:30")
    beside.small.documents[path]["items"].append(again)
    looks = waiting.looks
    await beside.until(lambda: waiting.looks > looks + 1)
    assert beside.says(said), "another id is no news"

    end = await beside.monitor(1, waited=START_SECONDS).end
    assert (end.outcome.reason, end.outcome.message.partition(": no network")[0]) == (
        Reason.FAILED,
        "not running within deadlines.startSeconds: pod job-1-0 is starting on node node-1: FailedCreatePodSandBox",
    )


@pytest.mark.parametrize("there", [0, 1])
async def test_who_refuses_a_pod_is_told_also_where_others_of_the_attempt_are_there(beside: Beside, there: int) -> None:
    beside.begin(1, nodes=there)
    refused = event("FailedCreate", "exceeded quota: pods, used: pods=1, limited: pods=1", "01:00")
    beside.small.documents[EVENTS.path(JOB.namespace)] = {"items": [refused]}
    beside.monitor(1, nodes=2, waited=monitoring.NO_POD_SECONDS + 1)

    await beside.until(lambda: beside.says(f"the pod is refused: {refused['message']}"))
    assert beside.small.status["reason"] == "JobRefused"


async def test_a_pod_that_starts_in_its_time_is_not_asked_about(beside: Beside) -> None:
    beside.index.jobs.put(beside.small.put_job(1))
    starting = pod_of(1)
    starting["status"] = {"phase": "Pending", "conditions": []}
    beside.index.pods.put(starting)
    monitoring_ = beside.monitor(1, waited=hindrance.SLOW_SECONDS / 2)
    await beside.until(lambda: monitoring_.looks > 0)

    assert beside.small.asked == []


@pytest.mark.parametrize("began", [LONG_AGO, IN_TIMES_TO_COME], ids=["ahead", "behind"])
async def test_a_pod_that_is_being_ended_is_not_taken_for_lost_however_wrong_the_workers_clock_is(
    beside: Beside, began: float
) -> None:
    beside.begin(1)
    stopping = pod_of(1, version=2)
    due = datetime.fromtimestamp(began + 20, UTC)
    stopping["metadata"]["deletionTimestamp"] = due.isoformat().replace("+00:00", "Z")
    saves = beside.monitor(1, began=began)
    await beside.sees(saves, stopping)
    given_up = beside.monitor(1, began=began, waited=20 + OVERDUE_SECONDS + 1)

    assert (await given_up.end).outcome.reason is Reason.DISRUPTED
    beside.index.pods.put(pod_of(1, version=3, words={"step": 7}))
    assert (await saves.end).to_step == 7
