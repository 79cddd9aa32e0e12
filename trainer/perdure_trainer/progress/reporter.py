"""Tells progress over HTTPS, from a thread of its own: whatever the receiver does, training does not wait."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Callable
from threading import Condition, Thread
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

import structlog
from pydantic import ValidationError

from perdure_api.progress import Notice, ProgressReply, ProgressReport

if TYPE_CHECKING:
    from perdure_trainer.settings import ProgressSettings

_log = structlog.get_logger()

INTERVAL_SECONDS: Final = 2.0
"""Between two reports; of what happens in between only the newest is told."""
TIMEOUT_SECONDS: Final = 5.0
LONGEST_REST_SECONDS: Final = 10.0
"""Between two tries while the receiver is away: once it is back, a trainer must not seem to hang for long."""
REPLY_LIMIT_BYTES: Final = 64 * 1024
NOTICES_AT_ONCE: Final = 16
_OK: Final = range(200, 300)


class ReportRefused(Exception):
    """The receiver answered, but did not take the report."""


class ProgressReporter:
    """Sends the newest report, at most every INTERVAL_SECONDS, and hands on the command in the answer."""

    def __init__(
        self,
        settings: ProgressSettings,
        on_command: Callable[[ProgressReply], None],
        interval_seconds: float = INTERVAL_SECONDS,
    ) -> None:
        self._settings = settings
        self._on_command = on_command
        self._interval_seconds = interval_seconds
        self._changed = Condition()
        self._newest: ProgressReport | None = None
        self._notices: list[Notice] = []
        self._closing = False
        self._failures = 0
        self._obeyed = ""
        self._thread = Thread(target=self._run, name="progress", daemon=True)
        self._thread.start()

    def tell(self, report: ProgressReport) -> None:
        """Takes note of a report and returns at once."""
        with self._changed:
            self._newest = report
            self._changed.notify()

    def notice(self, notice: Notice) -> None:
        """Takes note of something to be told with the next report, and with each until one is taken."""
        with self._changed:
            self._notices = [*self._notices, notice][-NOTICES_AT_ONCE:]

    def close(self, timeout_seconds: float) -> None:
        """Tries to send what is left, for so long."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while report := self._next():
            try:
                notices = self._notices
                self._on_reply(self._send(_with_notices(report, notices)))
                self._failures = 0
                with self._changed:
                    self._notices = [notice for notice in self._notices if notice not in notices]
            except (OSError, http.client.HTTPException, ValueError, ReportRefused) as error:
                self._failures += 1
                if self._failures == 1:
                    _log.warning("progress_not_taken", url=self._settings.url, message=str(error) or repr(error))
            self._rest()

    def _next(self) -> ProgressReport | None:
        """The newest report that was not sent, when there is one; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self._closing)
            report, self._newest = self._newest, None
            return report

    def _rest(self) -> None:
        seconds = min(LONGEST_REST_SECONDS, self._interval_seconds * 2**self._failures)
        with self._changed:
            self._changed.wait_for(lambda: self._closing, seconds)

    def _send(self, report: ProgressReport) -> bytes:
        url = urlsplit(self._settings.url)
        connection = self._connection(url)
        try:
            body = report.model_dump_json(by_alias=True, exclude_none=True).encode()
            path = f"{url.path or '/'}{f'?{url.query}' if url.query else ''}"
            connection.request("POST", path, body, {"Content-Type": "application/json", **self._authorization()})
            answer = connection.getresponse()
            if answer.status not in _OK:
                raise ReportRefused(f"the receiver answers {answer.status} {answer.reason}")
            return answer.read(REPLY_LIMIT_BYTES)
        finally:
            connection.close()

    def _connection(self, url: SplitResult) -> http.client.HTTPConnection:
        if url.hostname is None:
            raise ValueError(f"{self._settings.url!r} names no host")
        if url.scheme == "http":
            return http.client.HTTPConnection(url.hostname, url.port, timeout=TIMEOUT_SECONDS)
        # Read anew each time: both files change under a running pod when they are rotated.
        context = ssl.create_default_context(cafile=self._settings.ca_file)
        return http.client.HTTPSConnection(url.hostname, url.port, timeout=TIMEOUT_SECONDS, context=context)

    def _authorization(self) -> dict[str, str]:
        if self._settings.token_file is None:
            return {}
        return {"Authorization": f"Bearer {self._settings.token_file.read_text().strip()}"}

    def _on_reply(self, body: bytes) -> None:
        try:
            reply = ProgressReply.model_validate_json(body or b"{}")
        except ValidationError:
            return  # whatever it meant, the report was taken
        if reply.command is None or (reply.id and reply.id == self._obeyed):
            return
        self._obeyed = reply.id
        self._on_command(reply)


def _with_notices(report: ProgressReport, notices: list[Notice]) -> ProgressReport:
    if not notices or report.perdure is None:
        return report
    return report.model_copy(update={"perdure": report.perdure.model_copy(update={"notices": notices})})
