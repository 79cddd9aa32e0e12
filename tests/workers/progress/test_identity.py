"""Who is let in by a token: the API server's part is a script, over real HTTP, that answers reviews as one does."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration

from perdure_api.pod import PROGRESS_TOKEN_AUDIENCE
from perdure_control.cluster import Cluster, ClusterError
from perdure_workers.progress import identity
from perdure_workers.progress.identity import Identifier, NotOurs, TooManyTokens
from perdure_workers.watching.facts import AttemptKey, PodFacts

POD = PodFacts(
    key=AttemptKey("ns", "u", 1),
    trainingjob="job",
    namespace="ns",
    name="job-1",
    uid="pod-uid",
    node=None,
    phase="Running",
    deleting=False,
    cause=None,
    unschedulable=None,
    disruption=None,
    waiting=None,
    running=True,
    termination=None,
)
USER = {"username": "system:serviceaccount:ns:default", "extra": {"authentication.kubernetes.io/pod-uid": ["pod-uid"]}}
GOOD = {"authenticated": True, "audiences": [PROGRESS_TOKEN_AUDIENCE], "user": USER}


def token(signature: str = "good", claims: object = None) -> str:
    """A token like a kubelet's; whether it is good, only the API server knows."""
    claims = {"kubernetes.io": {"pod": {"name": POD.name, "uid": POD.uid}}} if claims is None else claims
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{payload}.{signature}"


@dataclass
class Reviews:
    """The API server, and the time."""

    status: dict[str, Any] | None = field(default_factory=lambda: GOOD)
    code: int = 201
    asked: list[dict[str, Any]] = field(default_factory=list)
    now: float = 0.0

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append(body)
        return web.json_response({**body, "status": self.status}, status=self.code)

    @property
    def tokens(self) -> list[str]:
        return [body["spec"]["token"] for body in self.asked]


@pytest.fixture
def reviews() -> Reviews:
    return Reviews()


@pytest.fixture
async def identifier(reviews: Reviews) -> AsyncIterator[Identifier]:
    application = web.Application()
    application.router.add_post("/apis/authentication.k8s.io/v1/tokenreviews", reviews.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with Cluster(Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}")) as cluster:
        yield Identifier(cluster, {POD.uid: POD}.get, lambda: reviews.now)
    await runner.cleanup()


async def test_a_token_of_a_training_pod_opens(identifier: Identifier, reviews: Reviews) -> None:
    assert await identifier.pod_behind(token()) == POD
    assert reviews.asked == [
        {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token(), "audiences": ["perdure.dev/progress"]},
        }
    ]


@pytest.mark.parametrize(
    "status",
    [
        None,
        {},
        {**GOOD, "authenticated": False},
        {**GOOD, "audiences": ["https://kubernetes.default.svc"]},
        {**GOOD, "audiences": None},
        {**GOOD, "user": None},
        {**GOOD, "user": {"username": "system:serviceaccount:ns:default"}},
        {**GOOD, "user": {"extra": {"authentication.kubernetes.io/pod-uid": []}}},
        {**GOOD, "user": {"extra": {"authentication.kubernetes.io/pod-uid": ["another"]}}},
        {**GOOD, "user": {"extra": {"authentication.kubernetes.io/node-uid": ["pod-uid"]}}},
    ],
    ids=[
        "no verdict",
        "an empty verdict",
        "not valid",
        "for another audience",
        "for none",
        "of nobody",
        "of no pod",
        "of none of many pods",
        "of a pod that is not ours",
        "of a node",
    ],
)
async def test_any_other_token_does_not_open(
    identifier: Identifier, reviews: Reviews, status: dict[str, Any] | None
) -> None:
    reviews.status = status

    with pytest.raises(NotOurs, match="token"):
        await identifier.pod_behind(token())


async def test_why_the_api_server_takes_no_token_is_passed_on(identifier: Identifier, reviews: Reviews) -> None:
    reviews.status = {"authenticated": False, "error": "token has expired"}

    with pytest.raises(NotOurs, match="token has expired"):
        await identifier.pod_behind(token())


async def test_a_good_verdict_holds_for_a_minute(identifier: Identifier, reviews: Reviews) -> None:
    await identifier.pod_behind(token())
    reviews.status, reviews.now = {"authenticated": False}, 59.9
    assert await identifier.pod_behind(token()) == POD
    assert len(reviews.asked) == 1

    reviews.now = 60.0
    with pytest.raises(NotOurs):
        await identifier.pod_behind(token())


async def test_a_bad_verdict_holds_for_a_minute_too_and_says_the_same(identifier: Identifier, reviews: Reviews) -> None:
    reviews.status = {"authenticated": False, "error": "token has expired"}
    for reviews.now in (0.0, 59.9):
        with pytest.raises(NotOurs, match="token has expired"):
            await identifier.pod_behind(token())
    assert len(reviews.asked) == 1

    reviews.status, reviews.now = GOOD, 60.0
    assert await identifier.pod_behind(token()) == POD


async def test_a_verdict_is_of_one_token_only(identifier: Identifier, reviews: Reviews) -> None:
    await identifier.pod_behind(token("one"))
    reviews.status = {"authenticated": False}

    with pytest.raises(NotOurs):
        await identifier.pod_behind(token("other"))


async def test_an_api_server_that_cannot_be_asked_gives_no_verdict(identifier: Identifier, reviews: Reviews) -> None:
    reviews.code = 503
    with pytest.raises(ClusterError):
        await identifier.pod_behind(token())

    reviews.code = 201
    assert await identifier.pod_behind(token()) == POD


async def test_any_number_of_tokens_takes_up_little_room(
    identifier: Identifier, reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "_CACHE_SIZE", 2)
    for signature in ("a", "b", "a", "c", "c", "a"):
        await identifier.pod_behind(token(signature))

    assert reviews.tokens == [token(signature) for signature in ("a", "b", "c", "a")]
    assert len(identifier._verdicts) == 2


@pytest.mark.parametrize(
    "stranger",
    [
        "",
        "token",
        "a.b.c",
        "e30.!.x",
        "é.é.é",
        token(claims=[]),
        token(claims={}),
        token(claims={"kubernetes.io": {"pod": None}}),
        token(claims={"kubernetes.io": {"pod": {"uid": ["pod-uid"]}}}),
        token(claims={"kubernetes.io": {"pod": {"uid": "another"}}}),
        f"e30.{base64.urlsafe_b64encode(b'[' * 6000).decode()}.x",
    ],
    ids=lambda stranger: stranger[:40],
)
async def test_about_a_token_that_does_not_say_to_be_of_a_pod_of_ours_nobody_is_asked(
    identifier: Identifier, reviews: Reviews, stranger: str
) -> None:
    reviews.code = 503
    with pytest.raises(NotOurs, match="token"):
        await identifier.pod_behind(stranger)

    assert reviews.asked == []


async def test_of_a_thousand_invented_tokens_few_are_asked_about_and_the_pods_own_still_opens(
    identifier: Identifier, reviews: Reviews
) -> None:
    await identifier.pod_behind(token())
    reviews.status, reviews.now = {"authenticated": False}, 100.0
    answers = []
    for number in range(1000):
        with pytest.raises((NotOurs, TooManyTokens)) as refused:
            await identifier.pod_behind(token(f"invented-{number}"))
        answers.append(refused.type)

    assert (answers.count(NotOurs), answers.count(TooManyTokens)) == (5, 995)
    reviews.status = GOOD
    assert await identifier.pod_behind(token()) == POD
    reviews.now = 102.0
    assert await identifier.pod_behind(token("its next one")) == POD
