"""The API server, for programs that ask it a thousand things and must not be what is slow."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

from bench.cluster.errors import BenchError

Document = dict[str, Any]
Take = Callable[[Document], None]

CONNECTIONS: Final = 32
"""Over which a burst is created: more of them only wait in the server."""
_GONE: Final = 410
_NOT_FOUND: Final = 404
_READ_BYTES: Final = 1 << 22
"""An event of a watch is one line, and may be a large object."""


class Api:
    """Paths and documents, no types."""

    def __init__(self, session: aiohttp.ClientSession, server: str) -> None:
        self._session = session
        self._server = server

    async def text(self, path: str) -> str:
        """What is answered, as it is.

        Raises:
            BenchError: the server does not answer, or with an error.
        """
        return (await self._ask("GET", path)).decode()

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Document:
        """An object, or a list."""
        document: Document = json.loads(await self._ask("GET", path, query=query))
        return document

    async def find(self, path: str) -> Document | None:
        """An object; None when there is none."""
        answer = await self._ask("GET", path, missing_ok=True)
        return json.loads(answer) if answer else None

    async def items(self, path: str, query: Mapping[str, str] | None = None) -> list[Document]:
        """The items of a list."""
        items: list[Document] = (await self.get(path, query))["items"]
        return items

    async def create(self, path: str, document: Document) -> Document:
        """Makes an object in a list."""
        made: Document = json.loads(await self._ask("POST", path, document=document))
        return made

    async def merge(self, path: str, document: Document) -> None:
        """Merges something into an object."""
        await self._ask("PATCH", path, document=document, content_type="application/merge-patch+json")

    async def delete(self, path: str, *, grace_seconds: int | None = None) -> None:
        """Deletes an object, and in the background what it owns; one that is not there is as good as deleted."""
        options: Document = {"propagationPolicy": "Background"}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        await self._ask("DELETE", path, document=options, missing_ok=True)

    async def count(self, path: str) -> int:
        """How many objects a list has, without reading them."""
        listed = await self.get(path, {"limit": "1"})
        return len(listed["items"]) + int(listed["metadata"].get("remainingItemCount", 0))

    async def watch(self, path: str, take: Take, started: asyncio.Event | None = None) -> None:
        """Has every change of a list told, for ever; what was there at the beginning is not.

        The API server ends slow watches without a word: this one goes on from where it was. One that was too long away
        misses what was in between, and says so by an error: a benchmark that has not seen everything must not go on.

        Raises:
            BenchError: what happened in between is lost.
        """
        version = (await self.get(path, {"limit": "1"}))["metadata"]["resourceVersion"]
        while True:
            query = {"watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true"}
            try:
                async with self._session.get(self._server + path, params=query, timeout=_ENDLESS) as response:
                    if response.status == _GONE:
                        raise BenchError(_lost(path))
                    response.raise_for_status()
                    if started:
                        started.set()
                    async for line in response.content:
                        event = json.loads(line)
                        if event["type"] == "ERROR":
                            raise BenchError(_lost(path))
                        version = event["object"]["metadata"]["resourceVersion"]
                        if event["type"] != "BOOKMARK":
                            take(event)
            except (aiohttp.ClientError, TimeoutError):
                await asyncio.sleep(0.1)

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        document: Document | None = None,
        content_type: str = "application/json",
        missing_ok: bool = False,
    ) -> bytes:
        headers = {"Content-Type": content_type} if document is not None else {}
        data = None if document is None else json.dumps(document).encode()
        try:
            async with self._session.request(
                method, self._server + path, params=query, data=data, headers=headers
            ) as response:
                answer = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise BenchError(
                f"the API server at {self._server} does not answer ({error or 'too slow'}); is the cluster up? "
                "devcluster/devcluster status says so, make install brings it up"
            ) from error
        if missing_ok and response.status == _NOT_FOUND:
            return b""
        if not response.ok:
            raise BenchError(f"{method} {path}: {response.status} {answer.decode(errors='replace')[:500]}")
        return answer


_ENDLESS = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=None)


def _lost(path: str) -> str:
    return f"the watch of {path} has missed events: the API server no longer has them; measure again"


@asynccontextmanager
async def connected(kubeconfig: Path) -> AsyncIterator[Api]:
    """The API server of a kubeconfig with a token, as the development cluster's is.

    Raises:
        BenchError: there is no such file, or it says something else.
    """
    server, authority, token = _entrance(kubeconfig)
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cadata=authority), limit=CONNECTIONS + 8)
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
    async with aiohttp.ClientSession(
        connector=connector,
        headers=headers,
        timeout=aiohttp.ClientTimeout(total=120),
        read_bufsize=_READ_BYTES,
    ) as session:
        yield Api(session, server)


def _entrance(kubeconfig: Path) -> tuple[str, str, str]:
    """URL of the API server, PEM of its authority, token."""
    if not kubeconfig.exists():
        raise BenchError(f"found no kubeconfig {kubeconfig}, expected the development cluster's; run: make install")
    try:
        document = json.loads(kubeconfig.read_text())
        cluster, token = document["clusters"][0]["cluster"], document["users"][0]["user"]["token"]
        return cluster["server"], base64.b64decode(cluster["certificate-authority-data"]).decode(), token
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise BenchError(f"{kubeconfig} is not the development cluster's (with a token, in JSON): {error}") from error


@asynccontextmanager
async def watching(api: Api, takers: Mapping[str, Take]) -> AsyncIterator[None]:
    """Has lists watched, each told to its taker, until the end of the block; all watches run when it begins."""
    async with asyncio.TaskGroup() as group:
        started = {path: asyncio.Event() for path in takers}
        tasks = [group.create_task(api.watch(path, take, started[path])) for path, take in takers.items()]
        try:
            for event in started.values():
                await event.wait()
            yield
        finally:
            for task in tasks:
                task.cancel()


async def each(documents: Sequence[Document], make: Callable[[Document], Awaitable[object]]) -> None:
    """Does the same with all of them, as many at a time as there are connections."""
    waiting = list(reversed(documents))

    async def work() -> None:
        while waiting:
            await make(waiting.pop())

    async with asyncio.TaskGroup() as group:
        for _ in range(min(CONNECTIONS, len(documents))):
            group.create_task(work())
