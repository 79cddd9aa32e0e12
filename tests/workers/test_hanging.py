"""When an attempt counts as hung, whatever the clocks of those say who hear its reports."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from perdure_api.status import ProgressStatus
from perdure_control.cluster import JOBS, Cluster
from perdure_control.statuses import TRAINING_JOBS
from perdure_workers.activities.hanging import HUNG_SECONDS, HangWatch
from perdure_workers.messages import Monitor, MonitorNote
from perdure_workers.progress.board import ProgressBoard, Told
from perdure_workers.story import rfc3339
from perdure_workers.watching.facts import AttemptKey
from perdure_workers.watching.index import AttemptIndex
from tests.workers.small_cluster import JOB, SmallCluster, serving

KEY = AttemptKey(JOB.namespace, JOB.uid, 1)
LIMIT = 100
HOUR = 3600


class Watched:
    """An attempt that runs, a monitor of it, and the time that passes."""

    def __init__(self, cluster: Cluster, small: SmallCluster) -> None:
        self.small = small
        self.board = ProgressBoard()
        self.now = 0.0
        self._cluster = cluster
        self._index = AttemptIndex()
        self._index.jobs.put(small.put_job(1))
        self.watch = self.monitored(MonitorNote())

    def monitored(self, note: MonitorNote) -> HangWatch:
        """What the next monitor of the attempt begins with."""
        request = Monitor(job=JOB, attempt=1, job_name="job-1", started_at=0, start_seconds=60, progress_seconds=LIMIT)
        return HangWatch(self._cluster, self._index, self.board, request, note, lambda: self.now)

    @property
    def is_ended(self) -> bool:
        return JOBS.path(JOB.namespace, "job-1") not in self.small.documents

    @property
    def times_asked(self) -> int:
        return self.small.asked.count(f"GET {TRAINING_JOBS.path(JOB.namespace, JOB.name)}")

    def heard(self, step: int, clock_is_ahead: float = 0) -> None:
        """This worker hears a report."""
        self.board.put(KEY, Told(JOB, report(step, self.now + clock_is_ahead), None))

    def shown(self, step: int, clock_is_ahead: float = 0) -> None:
        """Another worker has heard a report, and written it to the status."""
        self.small.trainingjob["status"] = {"progress": report(step, self.now + clock_is_ahead).to_wire()}

    async def pass_seconds(self, seconds: float) -> None:
        """Looks as often as a monitor does."""
        end = self.now + seconds
        while self.now < end:
            self.now += min(LIMIT / 4, end - self.now)
            await self.watch.look(KEY)


def report(step: int, time: float) -> ProgressStatus:
    return ProgressStatus(step=step, last_updated=rfc3339(datetime.fromtimestamp(10 * HOUR + time, UTC)))


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    small = SmallCluster()
    async with serving(small) as cluster:
        watched = Watched(cluster, small)
        await watched.watch.look(KEY)
        yield watched


async def test_an_attempt_that_tells_nothing_is_ended_when_its_time_is_over(watched: Watched) -> None:
    await watched.pass_seconds(LIMIT - 1)
    assert not watched.is_ended

    await watched.pass_seconds(1)
    assert watched.is_ended
    assert watched.watch.why == "no progress for 100 s, so it was ended"


@pytest.mark.parametrize("ahead", [-HOUR, 0, HOUR], ids=["behind", "in step", "ahead"])
async def test_an_attempt_is_left_alone_while_another_worker_hears_of_progress_whatever_its_clock_says(
    watched: Watched, ahead: float
) -> None:
    for step in range(10):
        watched.shown(step, clock_is_ahead=ahead)
        await watched.pass_seconds(LIMIT / 2)

    assert not watched.is_ended


@pytest.mark.parametrize("ahead", [-HOUR, 0, HOUR], ids=["behind", "in step", "ahead"])
async def test_an_attempt_that_hangs_is_ended_whatever_the_clock_of_the_worker_said_that_heard_it_last(
    watched: Watched, ahead: float
) -> None:
    watched.shown(7, clock_is_ahead=ahead)
    await watched.pass_seconds(1.5 * LIMIT)

    assert watched.is_ended
    assert watched.watch.why == "no progress for 100 s since step 7, so it was ended"


async def test_what_this_worker_hears_counts_and_the_status_is_not_asked_for_meanwhile(watched: Watched) -> None:
    asked = watched.times_asked
    for step in range(40):
        watched.heard(step)
        await watched.pass_seconds(LIMIT / 8)
    assert (watched.is_ended, watched.times_asked) == (False, asked)

    await watched.pass_seconds(1.25 * LIMIT)
    assert watched.is_ended


async def test_a_report_that_is_only_said_again_is_no_progress(watched: Watched) -> None:
    for _ in range(12):
        watched.heard(7)
        await watched.pass_seconds(LIMIT / 8)

    assert watched.is_ended


async def test_while_it_cannot_be_found_out_who_speaks_nobody_counts_as_silent(watched: Watched) -> None:
    for watched.board.deaf_at in range(10):
        await watched.pass_seconds(LIMIT / 2)
    assert not watched.is_ended

    await watched.pass_seconds(1.25 * LIMIT)
    assert watched.is_ended


async def test_while_the_status_cannot_be_read_nobody_is_ended(watched: Watched) -> None:
    watched.small.is_away = True
    await watched.pass_seconds(3 * LIMIT)
    assert not watched.is_ended

    watched.small.is_away = False
    await watched.pass_seconds(1)
    assert watched.is_ended


async def test_why_it_was_ended_is_known_though_the_answer_to_that_was_lost(watched: Watched) -> None:
    watched.small.loses_answers = True
    await watched.pass_seconds(LIMIT)

    assert watched.is_ended
    assert watched.watch.why == "no progress for 100 s, so it was ended"


async def test_one_that_makes_progress_again_before_it_could_be_ended_is_left_alone(watched: Watched) -> None:
    watched.small.refuses_to_delete = True
    await watched.pass_seconds(LIMIT)
    watched.small.refuses_to_delete = False

    watched.heard(step=2)
    await watched.pass_seconds(1)

    assert not watched.is_ended
    assert watched.watch.why == ""


async def test_one_that_cannot_be_ended_is_given_up_after_its_grace_by_a_successor_too(watched: Watched) -> None:
    await watched.pass_seconds(LIMIT)
    assert watched.is_ended

    monitors = (watched.watch, watched.monitored(MonitorNote(hung=watched.watch.why)))
    for monitor in monitors:
        assert not monitor.cannot_be_ended
    watched.now += HUNG_SECONDS + 1
    for monitor in monitors:
        assert monitor.cannot_be_ended
