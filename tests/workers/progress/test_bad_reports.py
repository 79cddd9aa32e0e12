"""Reports that are too large, too many, or nonsense: they cost no memory, nobody else, and change nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from aiohttp import ClientError
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry

from perdure_api.events import EventNote
from perdure_api.pod import PROGRESS_PATH
from perdure_api.workflow import JobRef
from perdure_workers.progress.board import ProgressBoard
from perdure_workers.progress.identity import NotOurs, TooManyTokens
from perdure_workers.progress.receiver import REPORTS_AT_ONCE, ProgressReceiver
from perdure_workers.watching.facts import AttemptKey, PodFacts
from tests.workers.progress.test_identity import POD

OTHER = replace(POD, key=AttemptKey("ns", "other", 1), name="other-1", uid="other-pod")
TEN_MEGABYTES = 10 * 2**20


class Known:
    """Two pods, by tokens that are their uids."""

    async def pod_behind(self, token: str) -> PodFacts:
        if token == "one of many":
            raise TooManyTokens("too many tokens")
        for pod in (POD, OTHER):
            if token == pod.uid:
                return pod
        raise NotOurs("the token is not valid")


class Receiver:
    """A receiver with its board."""

    def __init__(self, client: TestClient[Any, Any], board: ProgressBoard) -> None:
        self._client = client
        self._board = board

    async def post(self, body: bytes, *, of: PodFacts = POD) -> int:
        """What is answered."""
        headers = {"Authorization": f"Bearer {of.uid}", "Content-Type": "application/json"}
        async with self._client.post(PROGRESS_PATH, data=BytesIO(body), headers=headers) as answer:
            return answer.status

    def step(self, of: PodFacts = POD) -> int | None:
        """The step that is kept of a pod's attempt."""
        told = self._board.get(of.key)
        return told.progress.step if told else None

    def metrics(self) -> dict[str, float]:
        told = self._board.get(POD.key)
        assert told
        return told.progress.metrics


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    board = ProgressBoard()

    async def record(job: JobRef, note: EventNote) -> None:
        raise AssertionError((job, note))

    application = ProgressReceiver(
        Known(),  # type: ignore[arg-type] # test_identity.py is about who is let in
        board,
        lambda _: None,
        record,
        lambda _: None,
        lambda _: 1,
        CollectorRegistry(),
    ).application()
    async with TestClient(TestServer(application)) as client:
        yield Receiver(client, board)


def at_step(number: int) -> bytes:
    return b'{"perdure": {"step": %d}}' % number


@pytest.mark.parametrize(
    "body",
    [b"x" * TEN_MEGABYTES, b'{"perdure": {"step": 9, "metrics": {"a": ' + b"1" * TEN_MEGABYTES + b"}}}"],
    ids=["nonsense", "a number without end"],
)
async def test_a_report_of_ten_megabytes_is_refused(receiver: Receiver, body: bytes) -> None:
    with contextlib.suppress(ClientError):  # the connection may be closed before all of it is sent
        assert await receiver.post(body) == 413
    assert receiver.step() is None
    assert await receiver.post(at_step(1)) == 200


async def test_a_thousand_reports_at_once_are_refused_but_for_a_few_and_another_pod_is_heard(
    receiver: Receiver,
) -> None:
    begun = asyncio.get_running_loop().time()
    answers = Counter(await asyncio.gather(*[receiver.post(at_step(number)) for number in range(1000)]))
    seconds = asyncio.get_running_loop().time() - begun

    assert answers.keys() == {200, 429}
    assert REPORTS_AT_ONCE <= answers[200] <= REPORTS_AT_ONCE + 2 * seconds + 1
    assert await receiver.post(at_step(3), of=OTHER) == 200
    assert receiver.step(OTHER) == 3


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"step 3"',
        b'{"perdure": {"step": NaN}}',
        b'{"perdure": {"step": "three"}}',
        b'{"perdure": {"step": -1}}',
        b'{"perdure": {"step": 1.5}}',
        b'{"perdure": {"step": 1e400}}',
        b'{"perdure": {"step": 9, "metrics": {"loss": "low"}}}',
        b'{"trainerStatus": {"progressPercentage": NaN}}',
        b"\xff\xfe",
        b"[" * 60_000,
    ],
    ids=lambda body: body.decode(errors="replace")[:40],
)
async def test_what_is_no_report_is_refused_whole(receiver: Receiver, body: bytes) -> None:
    assert await receiver.post(at_step(2)) == 200

    assert await receiver.post(body) == 400
    assert receiver.step() == 2


async def test_a_loss_that_is_no_number_is_left_out_and_the_rest_is_kept(receiver: Receiver) -> None:
    body = b'{"perdure": {"step": 4, "metrics": {"loss": NaN, "grad_norm": Infinity, "learning_rate": 0.5}}}'

    assert await receiver.post(body) == 200
    assert (receiver.step(), receiver.metrics()) == (4, {"learning_rate": 0.5})


async def test_a_step_that_goes_back_is_taken_and_changes_nothing(receiver: Receiver) -> None:
    for number in (7, 3):
        assert await receiver.post(at_step(number)) == 200
    assert receiver.step() == 7


async def test_one_of_too_many_tokens_is_told_so_and_nothing_of_it_is_kept(receiver: Receiver) -> None:
    assert await receiver.post(at_step(7), of=replace(POD, uid="one of many")) == 429
    assert receiver.step() is None


async def test_a_pod_speaks_of_its_own_attempt_only(receiver: Receiver) -> None:
    await receiver.post(at_step(7), of=OTHER)
    assert (receiver.step(POD), receiver.step(OTHER)) == (None, 7)
