"""Liveness, readiness and metrics over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

_UNAVAILABLE: Final = 503

Check = Callable[[], str | None]
"""None when all is well, else a sentence that says what is not."""


@dataclass(frozen=True)
class Checks:
    """What liveness and readiness mean for one process."""

    live: Mapping[str, Check]
    """A failing one can only be cured by a restart."""
    ready: Mapping[str, Check]
    told: Mapping[str, Check] = field(default_factory=dict)
    """Worth knowing, but lived with: told by readiness, whose answer stays the same."""


class CheckCollector(Collector):
    """The checks as a gauge: alerts can tell what a readiness that stays the same only mentions."""

    def __init__(self, checks: Checks) -> None:
        self._checks = checks

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """1 for each check that passes, 0 for each that does not."""
        family = GaugeMetricFamily(
            "perdure_check_passes",
            "1 when all is well, else 0. Of a process that is live, that is ready, or what readiness only tells.",
            labels=["kind", "check"],
        )
        kinds = {"live": self._checks.live, "ready": self._checks.ready, "told": self._checks.told}
        for kind, checks in kinds.items():
            for name, check in checks.items():
                family.add_metric([kind, name], int(check() is None))
        yield family


@asynccontextmanager
async def serve_health(port: int, checks: Checks, registry: CollectorRegistry) -> AsyncIterator[None]:
    """Serves /healthz, /readyz and /metrics while the context lasts; the checks are metrics too."""
    registry.register(CheckCollector(checks))

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    application = web.Application()
    application.add_routes(
        [
            web.get("/healthz", _handler(checks.live)),
            web.get("/readyz", _handler({**checks.live, **checks.ready}, checks.told)),
            web.get("/metrics", metrics),
        ]
    )
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, port=port).start()
        yield
    finally:
        await runner.cleanup()


def _handler(
    checks: Mapping[str, Check], told: Mapping[str, Check] | None = None
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(_: web.Request) -> web.StreamResponse:
        problems = _problems(checks)
        answers = {**dict.fromkeys([*checks, *(told or {})], "ok"), **problems, **_problems(told or {})}
        text = "".join(f"{name}: {answer}\n" for name, answer in answers.items())
        return web.Response(text=text, status=_UNAVAILABLE if problems else 200)

    return handle


def _problems(checks: Mapping[str, Check]) -> dict[str, str]:
    return {name: problem for name, check in checks.items() if (problem := check()) is not None}
