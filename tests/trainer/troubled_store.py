"""A door to a real object store that troubles pass through with the requests."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

_HOP: Final = frozenset({"connection", "transfer-encoding", "content-length", "keep-alive"})


@dataclass(frozen=True)
class Request:
    """What a client asks."""

    number: int
    """From 1."""
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What it is answered."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


Ask = Callable[[Request], Answer]
Trouble = Callable[[Request, Ask], Answer | None]
"""What becomes of a request, given how to ask the store; None: the connection breaks off."""


def every_second_fails(request: Request, ask: Ask) -> Answer | None:
    """By turns the store refuses, or does what was asked and its answer is lost."""
    match request.number % 4:
        case 2:
            return Answer(503, [], b"")
        case 0:
            ask(request)
            return None
    return ask(request)


def slow(request: Request, ask: Ask) -> Answer:
    """Some hundred milliseconds for each request."""
    time.sleep(0.2)
    return ask(request)


@dataclass
class OldListings:
    """Listings do not yet know of the newest objects; reading them is no problem."""

    unknown: int = 20
    """More than a run of a dozen steps writes into its checkpoints."""
    _written: deque[str] = field(default_factory=deque)

    def __call__(self, request: Request, ask: Ask) -> Answer:
        address = urlsplit(request.path)
        answer = ask(request)
        if request.method == "PUT" and answer.status < 300:
            self._written.append(unquote(address.path).split("/", 2)[2])
        while len(self._written) > self.unknown:
            self._written.popleft()
        if "list-type" not in parse_qs(address.query):
            return answer
        listed = answer.body.decode()
        for key in self._written:
            listed = re.sub(rf"<Contents>(?:(?!</Contents>).)*<Key>{re.escape(key)}</Key>.*?</Contents>", "", listed)
        return Answer(answer.status, answer.headers, listed.encode())


@contextmanager
def troubled(endpoint: str, trouble: Trouble) -> Iterator[str]:
    """The endpoint of a store behind a trouble, until the end of the block."""
    store = urlsplit(endpoint).netloc
    lock, numbers = Lock(), iter(range(1, 10**9))

    def ask(request: Request) -> Answer:
        connection = HTTPConnection(store, timeout=60)
        try:
            connection.request(request.method, request.path, request.body, request.headers)
            response: HTTPResponse = connection.getresponse()
            headers = [(name, value) for name, value in response.getheaders() if name.lower() not in _HOP]
            length = response.getheader("Content-Length")
            body = response.read()
            if request.method == "HEAD" and length:
                headers.append(("Content-Length", length))
            return Answer(response.status, headers, body)
        finally:
            connection.close()

    class Door(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with lock:
                number = next(numbers)
            # With the Host that the client signed.
            answer = trouble(Request(number, self.command, self.path, dict(self.headers), body), ask)
            if answer is None:
                self.close_connection = True
                return
            self.send_response_only(answer.status)
            for name, value in answer.headers:
                self.send_header(name, value)
            if self.command != "HEAD":
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815 - http.server's names

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
