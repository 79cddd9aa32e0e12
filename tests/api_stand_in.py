"""A connection to so much of an API server as a test needs: one function answers all that is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from kubernetes.aio.client import Configuration

from perdure_control.cluster import Answered, Cluster

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def answered_by(
    answer: Answer, *, method: str = "*", counted: Answered = lambda *_: None
) -> AsyncIterator[Cluster]:
    """A connection to it; any other method than the one that is answered is refused."""
    application = web.Application()
    application.router.add_route(method, "/{path:.*}", answer)
    async with (
        _served(web.AppRunner(application)) as host,
        Cluster(Configuration(host=host), answered=counted) as cluster,
    ):
        yield cluster


@asynccontextmanager
async def listening(answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """Its address; what a proxy is asked for is answered too."""
    async with _served(web.ServerRunner(web.Server(answer))) as address:
        yield address


@asynccontextmanager
async def _served(runner: web.AppRunner | web.ServerRunner) -> AsyncIterator[str]:
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
