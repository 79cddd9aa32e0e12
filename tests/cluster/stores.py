"""Object stores that do not work as they should, in the place of the installed one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from tests.cluster.conftest import Document, Kubectl, kill_pods, wait_until

SERVICE: Final = "perdure-seaweedfs"
BEHIND: Final = "store-behind"
"""The Service that leads to the installed store meanwhile."""

_SERVER: Final = """
import http.client, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Bad(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        ANSWER
    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer
    def say(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True
    def pass_on(self):
        store = http.client.HTTPConnection("BEHIND", 8333)
        store.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            store.putheader(name, value)
        store.endheaders(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        answer = store.getresponse()
        body = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"transfer-encoding", "connection", "content-length"}:
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else len(body)
        self.send_header("Content-Length", str(length or 0))
        self.end_headers()
        self.wfile.write(body)
ThreadingHTTPServer(("", 8333), Bad).serve_forever()
"""
FULL: Final = "is full"
BAD_STORES: Final[Mapping[str, str]] = {
    "answers 503": "self.say(503)",
    "is slow, then cuts": "time.sleep(10); self.close_connection = True",
    "cuts connections": "self.close_connection = True",
    FULL: 'self.say(507) if self.command in {"PUT", "POST"} else self.pass_on()',
}
"""What is wrong with them, and how they answer."""


@contextmanager
def bad_store(system: Kubectl, image: str, how: str) -> Iterator[None]:
    """The store's Service leads to a pod that answers badly while the context lasts.

    Args:
        system: Where Perdure is installed.
        image: Any with Python.
        how: One of BAD_STORES.
    """
    service = system.json("get", "service", SERVICE)
    selector = service["spec"]["selector"]
    system("create", "-f", "-", document=_behind(service))
    try:
        system("create", "-f", "-", document=_pod(image, BAD_STORES[how]))
        system("wait", "--for=condition=Ready", "pod/bad-store", "--timeout=60s")
        _lead(system, {"bad-store": "true"})
        # Whoever is connected to the store stays so: a new store makes everybody connect anew.
        kill_pods(system, "object-store")
        yield
    finally:
        _lead(system, selector)
        system("delete", "pod/bad-store", f"service/{BEHIND}", "--force", "--grace-period=0", "--ignore-not-found")


def _lead(system: Kubectl, labels: Mapping[str, str]) -> None:
    replace = [{"op": "replace", "path": "/spec/selector", "value": labels}]
    system("patch", "service", SERVICE, "--type=json", "-p", json.dumps(replace))


def _behind(service: Document) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": BEHIND},
        "spec": {"selector": service["spec"]["selector"], "ports": service["spec"]["ports"]},
    }


def _pod(image: str, answer: str) -> Document:
    security = {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {
        "name": "bad-store",
        "image": image,
        "command": ["python3", "-c", _SERVER.replace("ANSWER", answer).replace("BEHIND", BEHIND)],
        "ports": [{"name": "s3", "containerPort": 8333}],
        "readinessProbe": {"tcpSocket": {"port": 8333}, "periodSeconds": 1},
        "securityContext": security,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "bad-store", "labels": {"bad-store": "true"}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    }


@contextmanager
def store_gone(system: Kubectl) -> Iterator[None]:
    system("scale", "statefulset/perdure-seaweedfs", "--replicas=0")
    try:
        wait_until(
            lambda: not system.items("pods", "-l", "app.kubernetes.io/component=object-store"),
            60,
            lambda: "still there",
        )
        yield
    finally:
        system("scale", "statefulset/perdure-seaweedfs", "--replicas=1")
