"""The HTTPS endpoint that training pods report to."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter
from pydantic import ValidationError

from perdure_api.conditions import Reason
from perdure_api.events import EventKind, EventNote
from perdure_api.pod import PROGRESS_PATH
from perdure_api.progress import PROGRESS_LIMIT_BYTES, AttemptCommand, ProgressReply, ProgressReport
from perdure_api.workflow import JobRef
from perdure_control.cluster import ClusterError
from perdure_workers.progress.board import ProgressBoard, Told, read_report
from perdure_workers.progress.buckets import Buckets
from perdure_workers.progress.identity import Identifier, NotOurs, TooManyTokens
from perdure_workers.story import rfc3339
from perdure_workers.watching.facts import AttemptKey, PodFacts

REPORTS_PER_SECOND: Final = 2.0
"""Sustained, for one pod; Hugging Face's callback sends one in five seconds."""
REPORTS_AT_ONCE: Final = 10.0
_BEARER: Final = "Bearer "


class ProgressReceiver:
    """Takes reports, checks who speaks, keeps the newest. Losing it never hurts training: pods do not wait for it."""

    def __init__(
        self,
        identifier: Identifier,
        board: ProgressBoard,
        on_news: Callable[[AttemptKey], None],
        record_event: Callable[[JobRef, EventNote], Awaitable[None]],
        command_of: Callable[[AttemptKey], AttemptCommand | None],
        newest_attempt: Callable[[AttemptKey], int],
        registry: CollectorRegistry,
    ) -> None:
        self._identifier = identifier
        self._board = board
        self._on_news = on_news
        self._record_event = record_event
        self._command_of = command_of
        self._newest_attempt = newest_attempt
        self._buckets = Buckets(REPORTS_PER_SECOND, REPORTS_AT_ONCE, time.monotonic)
        self._reports = Counter(
            "perdure_progress_reports", "Progress reports by what became of them.", ["result"], registry=registry
        )

    def application(self) -> web.Application:
        """The HTTP application."""
        application = web.Application(client_max_size=PROGRESS_LIMIT_BYTES)
        application.add_routes([web.post(PROGRESS_PATH, self._handle)])
        return application

    async def _handle(self, request: web.Request) -> web.Response:
        response = await self._answer(request)
        self._reports.labels(result=str(response.status)).inc()
        return response

    async def _answer(self, request: web.Request) -> web.Response:
        header = request.headers.get("Authorization", "")
        if not header.startswith(_BEARER):
            return _refuse(401, "send the pod's token as Authorization: Bearer …")
        try:
            pod = await self._identifier.pod_behind(header.removeprefix(_BEARER).strip())
        except NotOurs as error:
            return _refuse(403, str(error))
        except TooManyTokens as error:
            return _refuse(429, str(error))
        except ClusterError as error:
            self._board.deaf_at = time.time()
            return _refuse(503, f"the API server cannot check the token now: {error.message}")
        if (newest := self._newest_attempt(pod.key)) > pod.key.attempt:
            return _refuse(409, f"attempt {newest} has taken over; what attempt {pod.key.attempt} does counts no more")
        if not self._buckets.take(pod.uid):
            return _refuse(429, f"more than {REPORTS_PER_SECOND:.0f} reports a second; send fewer")
        try:
            report = ProgressReport.model_validate_json(await request.read())
        except web.HTTPRequestEntityTooLarge:
            return _refuse(413, f"a report has at most {PROGRESS_LIMIT_BYTES} bytes")
        except ValidationError as error:
            return _refuse(400, f"not a progress report: {error.errors()[0]['msg']} at {error.errors()[0]['loc']}")
        job = JobRef(namespace=pod.namespace, name=pod.trainingjob, uid=pod.key.job_uid)
        self._keep(pod, job, report)
        try:
            await self._record(job, report)
        except ClusterError as error:
            return _refuse(503, f"the API server takes no Events now: {error.message}")
        return web.json_response(self._reply(pod.key).to_wire())

    def _reply(self, key: AttemptKey) -> ProgressReply:
        command = self._command_of(key)
        return ProgressReply.model_validate(command.model_dump()) if command else ProgressReply()

    def _keep(self, pod: PodFacts, job: JobRef, report: ProgressReport) -> None:
        progress, checkpoint = read_report(report, rfc3339(datetime.now(UTC)))
        if self._board.put(pod.key, Told(job, progress, checkpoint)):
            self._on_news(pod.key)

    async def _record(self, job: JobRef, report: ProgressReport) -> None:
        for notice in report.perdure.notices if report.perdure else []:
            kind = EventKind.NORMAL if notice.reason is Reason.CHECKPOINT_SAVED else EventKind.WARNING
            await self._record_event(job, EventNote(kind=kind, reason=notice.reason, message=notice.message))


def _refuse(status: int, message: str) -> web.Response:
    return web.json_response({"message": message}, status=status)
