"""The informer against an API server that behaves as badly as real ones do at times.

A real server cannot be made to do these things on demand: here a script plays its part, over real HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration

from perdure_control.cluster import Cluster, ClusterError
from perdure_workers.watching import informer as informer_module
from perdure_workers.watching.informer import Informer

Document = dict[str, Any]
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
SECONDS = 60


class Kept:
    """A sink that can be waited for."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.versions: dict[str, str] = {}
        self.changed = asyncio.Event()
        self.failures: list[ClusterError] = []
        self.informer: Informer

    def replace(self, documents: Iterable[Document]) -> None:
        self.names = {document["metadata"]["name"] for document in documents}
        self.changed.set()

    def put(self, document: Document) -> None:
        self.names.add(document["metadata"]["name"])
        self.versions[document["metadata"]["name"]] = document["metadata"]["resourceVersion"]
        self.changed.set()

    def remove(self, document: Document) -> None:
        self.names.discard(document["metadata"]["name"])
        self.changed.set()

    async def until(self, *names: str) -> None:
        async with asyncio.timeout(SECONDS):
            while self.names != set(names):
                self.changed.clear()
                await self.changed.wait()


class Server:
    """Answers in turn; after the last one, watches stay open."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.queries: list[dict[str, str]] = []
        self.times: list[float] = []
        self.over = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.queries.append(dict(request.query))
        self.times.append(asyncio.get_running_loop().time())
        if self.answers:
            return await self.answers.pop(0)(request)
        return await stream(hold=self.over)(request)

    def close(self) -> None:
        self.over.set()


def item(name: str, version: str) -> Document:
    return {"metadata": {"name": name, "resourceVersion": version}}


def listed(version: str, *names: str, following: str = "") -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        items = [item(name, version) for name in names]
        metadata = {"resourceVersion": version, "continue": following}
        return web.json_response({"metadata": metadata, "items": items or None})

    return answer


def refused(status: int) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response({"kind": "Status", "code": status, "message": f"told {status}"}, status=status)

    return answer


def stream(*events: Document, hold: asyncio.Event | None = None) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for event in events:
            await response.write(json.dumps(event).encode() + b"\n")
        if hold:
            await hold.wait()
        return response

    return answer


def event(type_: str, name: str, version: str) -> Document:
    return {"type": type_, "object": item(name, version)}


GONE = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old resource version"}}


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(informer_module, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(informer_module, "MAX_PAUSE_SECONDS", 0.05)


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
async def kept(server: Server) -> Callable[[], contextlib.AbstractAsyncContextManager[Kept]]:
    @contextlib.asynccontextmanager
    async def run() -> AsyncIterator[Kept]:
        application = web.Application()
        application.router.add_get("/things", server.handle)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        configuration = Configuration(host=f"http://127.0.0.1:{port}")
        sink = Kept()
        async with Cluster(configuration) as cluster:
            sink.informer = Informer(cluster, "/things", sink, label_selector="a=b", on_failure=sink.failures.append)
            task = asyncio.create_task(sink.informer.run())
            try:
                yield sink
            finally:
                task.cancel()
                server.close()
                await asyncio.wait([task])
        await runner.cleanup()

    return run


Run = Callable[[], contextlib.AbstractAsyncContextManager[Kept]]


async def test_it_lists_once_and_then_watches_from_there(server: Server, kept: Run) -> None:
    server.answers = [listed("5", "a"), stream(event("ADDED", "b", "6"), event("DELETED", "a", "7"))]

    async with kept() as sink:
        await sink.until("b")

    assert "watch" not in server.queries[0]
    assert server.queries[1]["resourceVersion"] == "5"


async def test_it_asks_for_its_own_objects_only_and_for_bookmarks(server: Server, kept: Run) -> None:
    server.answers = [listed("5", "a"), stream(event("ADDED", "b", "6"))]

    async with kept() as sink:
        await sink.until("a", "b")

    assert server.queries[0] == {"labelSelector": "a=b", "limit": "500"}
    assert server.queries[1] == {
        "labelSelector": "a=b",
        "resourceVersion": "5",
        "watch": "true",
        "allowWatchBookmarks": "true",
        "timeoutSeconds": "300",
    }


async def test_a_long_list_is_read_to_its_end_before_anything_is_forgotten(server: Server, kept: Run) -> None:
    server.answers = [listed("5", "a", following="more"), listed("5", "b", following="last"), listed("6", "c")]

    async with kept() as sink:
        await sink.until("a", "b", "c")

    assert [query.get("continue") for query in server.queries[:3]] == [None, "more", "last"]


async def test_it_is_in_step_once_it_has_listed_be_there_anything_or_not(server: Server, kept: Run) -> None:
    server.answers = [refused(503), listed("5"), stream(event("ADDED", "a", "6"))]

    async with kept() as sink:
        assert not sink.informer.synced
        await sink.until("a")

        assert sink.informer.synced


async def test_a_change_is_kept(server: Server, kept: Run) -> None:
    server.answers = [listed("5", "a"), stream(event("MODIFIED", "a", "6"), event("ADDED", "b", "7"))]

    async with kept() as sink:
        await sink.until("a", "b")

        assert sink.versions["a"] == "6"


async def test_a_watch_that_ends_without_a_word_goes_on_where_it_was(server: Server, kept: Run) -> None:
    server.answers = [listed("5"), stream(event("ADDED", "a", "6")), stream(event("ADDED", "b", "7"))]

    async with kept() as sink:
        await sink.until("a", "b")

    assert [query.get("resourceVersion") for query in server.queries[:3]] == [None, "5", "6"]


async def test_a_bookmark_moves_the_place_without_being_an_object(server: Server, kept: Run) -> None:
    bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "90"}}}
    server.answers = [listed("5", "a"), stream(bookmark), stream(event("ADDED", "b", "91"))]

    async with kept() as sink:
        await sink.until("a", "b")

    assert server.queries[2]["resourceVersion"] == "90"


@pytest.mark.parametrize("gone", [stream(GONE), refused(410)], ids=["in the stream", "as the answer"])
async def test_a_place_that_is_too_old_leads_to_a_fresh_list(server: Server, kept: Run, gone: Answer) -> None:
    server.answers = [listed("5", "a"), gone, listed("50", "b")]

    async with kept() as sink:
        await sink.until("b")

        assert sink.failures == []
    assert "watch" not in server.queries[2]


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_server_in_trouble_is_asked_again(server: Server, kept: Run, status: int) -> None:
    server.answers = [refused(status), listed("5", "a"), refused(status), stream(event("ADDED", "b", "6"))]

    async with kept() as sink:
        await sink.until("a", "b")


async def test_troubles_are_told_and_followed_by_a_pause(server: Server, kept: Run) -> None:
    server.answers = [
        refused(503),
        refused(403),
        listed("5", "a"),
        stream(),
        refused(500),
        stream(event("ADDED", "b", "6")),
    ]

    async with kept() as sink:
        await sink.until("a", "b")

        assert [failure.status for failure in sink.failures] == [503, 403, 500]
    for troubled, pause in [(0, 0.01), (1, 0.05), (4, 0.01)]:
        # At least half of it, by the jitter; the loop's clock may be off by a little.
        assert server.times[troubled + 1] - server.times[troubled] > 0.4 * pause


@pytest.mark.parametrize(("troubles", "pause"), [(0, 0), (1, 0.01), (2, 0.02), (3, 0.04), (4, 0.05), (5, 0.05)])
async def test_pauses_grow_to_a_limit(server: Server, kept: Run, troubles: int, pause: float) -> None:
    server.answers = [*[refused(503)] * troubles, listed("5", "a")]

    async with kept() as sink:
        await sink.until("a")

        assert sink.informer._pause_seconds == pause


async def test_a_watch_that_lived_pays_for_no_earlier_trouble(server: Server, kept: Run) -> None:
    server.answers = [*[refused(503)] * 3, listed("5"), stream(event("ADDED", "a", "6"), hold=server.over)]

    async with kept() as sink:
        await sink.until("a")

        assert sink.informer._pause_seconds == 0


async def test_a_watch_that_is_refused_leads_to_a_fresh_list_which_says_what_is_missing(
    server: Server, kept: Run
) -> None:
    server.answers = [listed("5", "a"), refused(403), listed("50", "b")]

    async with kept() as sink:
        await sink.until("b")

    assert "watch" not in server.queries[2]


async def test_a_right_that_is_missing_is_waited_for(server: Server, kept: Run) -> None:
    server.answers = [refused(403), refused(403), listed("5", "a")]

    async with kept() as sink:
        await sink.until("a")


async def test_it_tells_for_how_long_the_server_has_said_nothing(
    server: Server, kept: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bookmarks count: a quiet collection is no dead watch."""
    now = 1000.0
    monkeypatch.setattr(informer_module.time, "monotonic", lambda: now)
    heard = asyncio.Event()

    async def bookmark_later(request: web.Request) -> web.StreamResponse:
        await heard.wait()
        bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "90"}}}
        return await stream(bookmark, event("ADDED", "b", "91"), hold=server.over)(request)

    server.answers = [listed("5", "a"), bookmark_later]

    async with kept() as sink:
        await sink.until("a")
        now += 70
        assert sink.informer.heard_seconds_ago() == 70

        heard.set()
        await sink.until("a", "b")

        assert sink.informer.heard_seconds_ago() == 0
