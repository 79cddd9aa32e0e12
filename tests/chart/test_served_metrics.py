"""What alerts and dashboard are tested against is what the processes serve: each is started, and asked."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from perdure_operator.certificates import renewed
from tests.chart import metrics

START_SECONDS = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """That of a pod which reaches neither the API server nor Temporal, and has its certificate."""
    nowhere = f"127.0.0.1:{free_port()}"
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"http://{nowhere}"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    bundle = renewed({}, ("progress.perdure.svc",), datetime.now(UTC))
    assert bundle
    for name, content in bundle.to_data().items():
        (tmp_path / name).write_bytes(content)
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "KUBECONFIG": str(tmp_path / "kubeconfig"),
        "PERDURE_NAMESPACE": "perdure-system",
        "PERDURE_TEMPORAL_ADDRESS": nowhere,
        "PERDURE_PROGRESS_TLS_DIR": str(tmp_path),
        "PERDURE_PROGRESS_PORT": str(free_port()),
    }


@contextmanager
def running(environment: dict[str, str], log: Path, *arguments: str) -> Iterator[str]:
    """The address of the metrics of a process, until the end of the block."""
    port = free_port()
    with (
        log.open("wb") as words,
        subprocess.Popen(
            [sys.executable, "-m", *arguments],
            env={**environment, "PERDURE_HTTP_PORT": str(port)},
            stdout=words,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            yield f"http://127.0.0.1:{port}/metrics"
        finally:
            process.kill()


def page_with(address: str, log: Path, *texts: str) -> str:
    """The page, once all of this stands on it."""
    deadline = time.monotonic() + START_SECONDS
    page = ""
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                page = answer.read().decode()
        except OSError:
            page = ""
        if all(text in page for text in texts):
            return page
        time.sleep(0.1)
    pytest.fail(f"{texts} was not served within {START_SECONDS} s: {page}\n{log.read_text()[-2000:]}")


def names_on(page: str) -> set[str]:
    """Names of the series of all metrics on a page, also of those that have no series yet."""
    suffixes = {"histogram": ("_bucket", "_count", "_sum")}
    return {
        f"{name}{suffix}"
        for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE)
        for suffix in suffixes.get(kind, ("",))
    }


def test_an_operator_serves_them(environment: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running(environment, log, "perdure_operator") as address:
        page = page_with(address, log, 'perdure_kubernetes_requests_total{code="none",method="GET",resource="trainingj')

    # Of a watch that was never complete there is nothing to tell.
    assert names_on(page) == metrics.of_operator() - {"perdure_operator_watch_checked_age_seconds"}


def test_a_worker_serves_them_and_says_that_temporal_is_away(environment: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running(environment, log, "perdure_workers", "--pool", "cpu") as address:
        page = page_with(
            address,
            log,
            'perdure_kubernetes_requests_total{code="none",method="GET",resource="pods"}',
            "# TYPE perdure_progress_reports_total",
        )

    assert 'perdure_check_passes{check="temporal",kind="told"} 0.0' in page
    # Attempts are counted once there is somebody to watch them, and breakers are there once there are activities.
    assert names_on(page) == metrics.of_worker() - {"perdure_attempts_ended_total", "perdure_breaker_state"}
