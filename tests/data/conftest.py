from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from perdure_api.uri import StoreUri, parse_uri
from perdure_data.stores import Stores


@pytest.fixture
def stores() -> Stores:
    return Stores()


@pytest.fixture(params=["file", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> StoreUri:
    """A folder to write to: each test that asks for it runs on a file system and on S3."""
    if request.param == "file":
        return parse_uri(f"file://{tmp_path}/folder")
    return parse_uri(request.getfixturevalue("s3_folder"))


class AnsweringWith:
    """A server that answers every request with one status; `status` may be changed at any time."""

    def __init__(self) -> None:
        self.status = 503
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(outer.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_HEAD = do_PUT = do_GET  # noqa: N815 - http.server's names

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def broken_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[AnsweringWith]:
    server = AnsweringWith()
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "something")
    yield server
    server.stop()
