"""Prometheus, and its own tool, which tests rules as Prometheus would evaluate them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.chart.rendered import ROOT


def find_promtool() -> Path:
    """The program, unpacked where it is not there yet."""
    result = subprocess.run([ROOT / "scripts" / "prometheus"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return Path(result.stdout.strip()) / "promtool"


def find_prometheus() -> Path:
    """The server, which comes with it."""
    return find_promtool().with_name("prometheus")


def as_asked(expression: str, namespace: str = "perdure-system") -> str:
    """A query of the dashboard as Grafana sends it."""
    return expression.replace("$namespace", namespace).replace("$__rate_interval", "1m")


def run_promtool(promtool: Path, *arguments: str | Path) -> None:
    """One run of it, which must find nothing to say against."""
    result = subprocess.run([promtool, *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
