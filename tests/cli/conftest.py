"""The command against a real API server, and a kubelet whose logs the test writes."""

from __future__ import annotations

import itertools
import json
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from perdure_api import names
from perdure_api.pod import CONTAINER_NAME
from perdure_operator import certificates
from tests.cli import documents
from tests.cli.typed import Perdure, perdure_in

if TYPE_CHECKING:
    from tests.conftest import ApiServer

PATIENCE_SECONDS = 30
_SECONDS = len("2026-11-22T12:00:00")
_numbers = itertools.count(1)


class Kubelet:
    """Serves what containers wrote, as a kubelet does: `(stamp, line)` from a time on, and then what comes.

    The API server asks it in the name of a node. It can break connections off, which a real one does seldom enough.
    """

    def __init__(self, folder: Path) -> None:
        outer = self
        self.lines: dict[str, list[str]] = {}
        self.over: set[str] = set()
        self.break_after: dict[str, int] = {}
        self.requests: list[dict[str, list[str]]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlsplit(self.path)
                outer._serve(self, url.path.split("/")[3], parse_qs(url.query))

            def log_message(self, *arguments: object) -> None:
                pass

        bundle = certificates.renewed({}, ("node",), datetime.now(UTC))
        assert bundle
        for name, content in bundle.to_data().items():
            (folder / name).write_bytes(content)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def write(self, pod: str, *lines: str) -> None:
        """Adds lines to a pod's log, a second apart."""
        log = self.lines.setdefault(pod, [])
        for line in lines:
            log.append(f"2026-11-22T12:00:{len(log):02}.500000000Z {line}")

    def _serve(self, handler: BaseHTTPRequestHandler, pod: str, query: dict[str, list[str]]) -> None:
        self.requests.append(query)
        since = query.get("sinceTime", [""])[0]
        # Whole seconds, as the real one: what was in the same second comes again.
        sent = sum(line[:_SECONDS] < since[:_SECONDS] for line in self.lines.get(pod, []))
        handler.send_response(200)
        handler.end_headers()
        follow, deadline = "follow" in query, time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            for line in self.lines.get(pod, [])[sent:]:
                handler.wfile.write(f"{line}\n".encode())
                handler.wfile.flush()
                sent += 1
                if self.break_after.get(pod) == sent:
                    del self.break_after[pod]
                    return
            if not follow or pod in self.over:
                return
            time.sleep(0.02)


@pytest.fixture(scope="module")
def kubelet(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubelet]:
    kubelet = Kubelet(tmp_path_factory.mktemp("kubelet"))
    api_server.kubectl("create", "-f", "-", document={"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}})
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet.port}},
    }
    api_server.kubectl("patch", "node", "n1", "--subresource=status", "-p", json.dumps({"status": status}))
    yield kubelet
    kubelet.stop()


@dataclass
class Running:
    """The command while it runs; its output as it comes."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._threads = [
            threading.Thread(target=self._read, args=(stream,)) for stream in (self.process.stdout, self.process.stderr)
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, stream: Any) -> None:
        with stream:
            self.lines.extend(line.rstrip("\n") for line in stream)

    def says(self, text: str) -> None:
        """Waits until it has."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if any(text in line for line in list(self.lines)):
                return
            time.sleep(0.02)
        pytest.fail(f"it did not say {text!r}, but {self.lines}")

    def end(self) -> int:
        """Its exit status."""
        status = self.process.wait(PATIENCE_SECONDS)
        for thread in self._threads:
            thread.join()
        return status


@dataclass(frozen=True)
class Cli:
    """The command, as its users call it."""

    kubeconfig: Path
    namespace: str

    def start(self, *arguments: str) -> Running:
        """Starts it in the namespace of the test."""
        return Running(
            subprocess.Popen(
                # Tests that run in the background have been told to ignore SIGINT, and hand that on.
                ["env", "--default-signal=INT", sys.executable, "-m", "perdure_cli", *arguments],
                env={**os.environ, "KUBECONFIG": str(self.kubeconfig), "COLUMNS": "200"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )

    def __call__(self, *arguments: str) -> tuple[int, list[str]]:
        """Exit status, and the lines of both streams."""
        running = self.start(*arguments, "-n", self.namespace)
        return running.end(), running.lines


@dataclass(frozen=True)
class Namespace:
    """A namespace, and what is done in it by others than the command."""

    name: str
    kubectl: Callable[..., str]

    def job(self, name: str = "smol", status: dict[str, Any] | None = None) -> str:
        """The uid of a new TrainingJob."""
        document = documents.document(name=name, namespace=self.name)
        del document["metadata"]["creationTimestamp"], document["metadata"]["uid"]
        self.kubectl("create", "-f", "-", document=document)
        if status is not None:
            self.status(name, status)
        return self.kubectl("get", names.PLURAL, name, "-n", self.name, "-o", "jsonpath={.metadata.uid}")

    def status(self, name: str, status: dict[str, Any]) -> None:
        patch = json.dumps({"status": status})
        self.kubectl("patch", names.PLURAL, name, "-n", self.name, "--subresource=status", "--type=merge", "-p", patch)

    def delete(self, name: str) -> None:
        self.kubectl("delete", names.PLURAL, name, "-n", self.name)

    def pod(self, uid: str, attempt: int, state: dict[str, Any]) -> str:
        """The name of a new pod on the test's node."""
        name = f"{self.name}-smol-{attempt}-0"
        container = {"name": CONTAINER_NAME, "image": "x"}
        document = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": self.name,
                "labels": {names.LABEL_JOB_UID: uid, names.LABEL_ATTEMPT: str(attempt)},
            },
            "spec": {"nodeName": "n1", "containers": [container], "automountServiceAccountToken": False},
        }
        self.kubectl("create", "-f", "-", document=document)
        self.pod_state(name, state)
        return name

    def pod_state(self, name: str, state: dict[str, Any]) -> None:
        container = {
            "name": CONTAINER_NAME, "image": "x", "imageID": "", "ready": False, "restartCount": 0, "state": state,
        }  # fmt: skip
        patch = json.dumps({"status": {"containerStatuses": [container]}})
        self.kubectl("patch", "pod", name, "-n", self.name, "--subresource=status", "-p", patch)


@pytest.fixture
def namespace(api_server: ApiServer) -> Namespace:
    name = f"cli-{next(_numbers)}"
    api_server.kubectl("create", "namespace", name)
    return Namespace(name, api_server.kubectl)


@pytest.fixture
def cli(api_server: ApiServer, namespace: Namespace) -> Cli:
    return Cli(api_server.kubeconfig, namespace.name)


@pytest.fixture
def perdure(tmp_path: Path) -> Perdure:
    """The command, where a package is installed that brings `greet`."""
    return perdure_in(tmp_path)
