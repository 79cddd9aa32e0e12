"""What the receiver makes of a report, once it is known who speaks."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry

from perdure_api.conditions import Reason
from perdure_api.events import EventKind, EventNote
from perdure_api.pod import PROGRESS_PATH
from perdure_api.progress import AttemptCommand, Command
from perdure_api.workflow import JobRef
from perdure_control.cluster import ClusterError
from perdure_workers.progress.board import ProgressBoard
from perdure_workers.progress.receiver import ProgressReceiver
from perdure_workers.watching.facts import AttemptKey, PodFacts
from tests.workers.progress.test_identity import POD

KEY = POD.key
BROKEN = {"reason": "CheckpointBroken", "message": "step 9 is cut in half"}


class Known:
    """Whoever speaks is the pod, unless nobody can tell."""

    def __init__(self) -> None:
        self.nobody_can_tell = False

    async def pod_behind(self, token: str) -> PodFacts:
        assert token == "token"
        if self.nobody_can_tell:
            raise ClusterError("away", status=503)
        return POD


@dataclass
class Desk:
    """A receiver, what it kept and what it recorded."""

    client: TestClient[Any, Any] | None = None
    known: Known = field(default_factory=Known)
    board: ProgressBoard = field(default_factory=ProgressBoard)
    news: list[AttemptKey] = field(default_factory=list)
    events: list[tuple[JobRef, EventNote]] = field(default_factory=list)
    api_server_is_away: bool = False
    command: AttemptCommand | None = None
    newest_attempt: int = KEY.attempt

    async def record(self, job: JobRef, note: EventNote) -> None:
        if self.api_server_is_away:
            raise ClusterError("away", status=503)
        self.events.append((job, note))

    async def tell(self, **ours: Any) -> int:
        return (await self._post(ours)).status

    async def answer(self) -> Any:
        return await (await self._post({})).json()

    async def _post(self, ours: dict[str, Any]) -> ClientResponse:
        assert self.client
        headers = {"Authorization": "Bearer token"}
        return await self.client.post(PROGRESS_PATH, json={"perdure": {"step": 1, **ours}}, headers=headers)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    receiver = ProgressReceiver(
        desk.known,  # type: ignore[arg-type] # test_identity.py is about who is let in
        desk.board,
        desk.news.append,
        desk.record,
        lambda _: desk.command,
        lambda _: desk.newest_attempt,
        CollectorRegistry(),
    )
    async with TestClient(TestServer(receiver.application())) as client:
        desk.client = client
        yield desk


async def test_a_report_is_kept_and_is_news(desk: Desk) -> None:
    assert await desk.tell(step=7) == 200
    told = desk.board.get(KEY)
    assert told is not None
    assert told.progress.step == 7
    assert desk.news == [KEY]
    assert desk.events == []


async def test_a_report_of_which_nobody_can_tell_who_sent_it_may_have_been_of_progress(desk: Desk) -> None:
    assert await desk.tell(step=7) == 200
    assert desk.board.deaf_at is None
    desk.known.nobody_can_tell = True

    before = time.time()
    assert await desk.tell(step=8) == 503
    assert before <= (desk.board.deaf_at or 0) <= time.time()


async def test_an_attempt_that_another_has_taken_over_tells_nothing_any_more(desk: Desk) -> None:
    desk.newest_attempt = KEY.attempt + 1

    assert await desk.tell(step=7, notices=[BROKEN]) == 409
    assert (desk.board.get(KEY), desk.news, desk.events) == (None, [], [])


async def test_a_notice_becomes_a_warning_event(desk: Desk) -> None:
    assert await desk.tell(notices=[BROKEN]) == 200
    job = JobRef(namespace="ns", name="job", uid="u")
    note = EventNote(kind=EventKind.WARNING, reason=Reason.CHECKPOINT_BROKEN, message="step 9 is cut in half")
    assert desk.events == [(job, note)]


async def test_a_checkpoint_that_was_asked_for_is_good_news(desk: Desk) -> None:
    assert await desk.tell(notices=[{"reason": "CheckpointSaved", "message": "step 9"}]) == 200
    assert [note.kind for _, note in desk.events] == [EventKind.NORMAL]


async def test_what_the_attempt_is_to_be_told_is_in_every_answer(desk: Desk) -> None:
    assert await desk.answer() == {"id": "", "reason": ""}
    desk.command = AttemptCommand(command=Command.CHECKPOINT, id="a", reason="power")
    for _ in range(2):
        assert await desk.answer() == {"command": "checkpoint", "id": "a", "reason": "power"}


async def test_a_notice_that_cannot_be_recorded_is_asked_for_again_but_progress_is_kept(desk: Desk) -> None:
    desk.api_server_is_away = True
    assert await desk.tell(step=3, notices=[BROKEN]) == 503
    assert desk.news == [KEY]


@pytest.mark.parametrize(
    "notices",
    [
        [{"reason": "Completed", "message": "a pod may not say so"}],
        [{"reason": "CheckpointBroken", "message": ""}],
        [{"reason": "CheckpointBroken", "message": "x" * 1025}],
        [BROKEN] * 17,
    ],
    ids=["foreign reason", "empty", "long", "many"],
)
async def test_what_is_no_notice_is_refused_whole(desk: Desk, notices: list[dict[str, str]]) -> None:
    assert await desk.tell(notices=notices) == 400
    assert desk.events == []
