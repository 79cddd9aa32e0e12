"""Pods as a real cluster showed them, by the names of their files."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

_FOLDER = Path(__file__).parent / "fixtures" / "pods"
NAMES = sorted(file.stem for file in _FOLDER.glob("*.yaml"))


def document(name: str) -> dict[str, Any]:
    """One of them, to be changed at will."""
    # What safe_load gives, in a tenth of its time: tables of tests ask for a hundred of these while they are collected.
    pod: dict[str, Any] = yaml.load(_text(name), yaml.CSafeLoader)
    return pod


@cache
def _text(name: str) -> str:
    return (_FOLDER / f"{name}.yaml").read_text()
