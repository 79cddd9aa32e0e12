"""An API server that knows lists, and nothing about what is in them."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

from bench.cluster.api import Api

Document = dict[str, Any]


class StandIn:
    """Objects by path; watches tell what happens from a version on, and can be ended without a word."""

    def __init__(self) -> None:
        self.objects: dict[str, Document] = {}
        self.asked: list[tuple[str, str]] = []
        self.happened: list[tuple[str, Document]] = []
        self.changed = asyncio.Condition()
        self.end_watches_after = 1_000_000
        self.forgotten_before = 0
        self.stays: set[str] = set()
        self._versions = itertools.count(1)

    async def on_create(self, path: str, document: Document) -> None:
        """What a cluster would do with a new object; nothing, unless a test says so."""

    async def put(self, path: str, document: Document, type_: str = "ADDED") -> None:
        version = next(self._versions)
        document = {**document, "metadata": {**document.get("metadata", {}), "resourceVersion": str(version)}}
        self.objects[path] = document
        async with self.changed:
            self.happened.append((path.rpartition("/")[0], {"type": type_, "object": document}))
            self.changed.notify_all()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        path, method = request.path, request.method
        self.asked.append((method, path))
        if method == "POST":
            document = await request.json()
            await self.put(f"{path}/{document['metadata']['name']}", document)
            if path == "/api/v1/namespaces":
                await self.put(f"{path}/{document['metadata']['name']}/serviceaccounts/default", {})
            await self.on_create(path, document)
            return web.json_response(document, status=201)
        if method == "DELETE":
            if path not in self.stays:
                self.objects = {each: it for each, it in self.objects.items() if not _is_within(each, path)}
            return web.json_response({})
        if "watch" in request.query:
            return await self._watch(request)
        if path in self.objects:
            return web.json_response(self.objects[path])
        if path.rpartition("/")[2] in {"namespaces", "trainingjobs", "pods", "jobs"}:
            return self._list(request)
        return web.json_response({"message": "not found"}, status=404)

    def _list(self, request: web.Request) -> web.Response:
        keys = [word.partition("=")[0] for word in request.query.get("labelSelector", "").split(",") if word]
        items = [
            document
            for path, document in self.objects.items()
            if path.rpartition("/")[0] == request.path and set(keys) <= document["metadata"].get("labels", {}).keys()
        ]
        limit = int(request.query.get("limit", 1_000_000))
        metadata: Document = {"resourceVersion": str(len(self.happened))}
        if len(items) > limit:
            metadata["remainingItemCount"] = len(items) - limit
        return web.json_response({"items": items[:limit], "metadata": metadata})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        since = int(request.query["resourceVersion"])
        if since < self.forgotten_before:
            return web.json_response({"message": "too old"}, status=410)
        response = web.StreamResponse()
        await response.prepare(request)
        # The real one sends its headers at once; this one with the first that it tells.
        bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(since)}}}
        await response.write(json.dumps(bookmark).encode() + b"\n")
        told = 0
        while told < self.end_watches_after:
            async with self.changed:
                new = [
                    event
                    for path, event in self.happened
                    if path == request.path and int(event["object"]["metadata"]["resourceVersion"]) > since
                ]
                if not new:
                    await self.changed.wait()
                    continue
            await response.write(json.dumps(new[0]).encode() + b"\n")
            since, told = int(new[0]["object"]["metadata"]["resourceVersion"]), told + 1
        return response


def _is_within(path: str, deleted: str) -> bool:
    """Whether an object is the deleted one, or in the deleted namespace."""
    _, _, namespace = deleted.partition("/api/v1/namespaces/")
    return path == deleted or (bool(namespace) and "/" not in namespace and f"/namespaces/{namespace}/" in path)


@asynccontextmanager
async def stand_in(kind: type[StandIn] = StandIn) -> AsyncIterator[tuple[StandIn, Api]]:
    server = kind()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with aiohttp.ClientSession() as session:
            yield server, Api(session, f"http://127.0.0.1:{runner.addresses[0][1]}")
    finally:
        await runner.cleanup()
