"""Kubernetes Events about TrainingJobs: what a person would want to be told."""

from __future__ import annotations

from enum import StrEnum

from perdure_api.conditions import Reason
from perdure_api.model import TolerantModel


class EventKind(StrEnum):
    """As in a Kubernetes Event."""

    NORMAL = "Normal"
    WARNING = "Warning"


class EventNote(TolerantModel):
    """One Event to be recorded."""

    kind: EventKind
    reason: Reason
    message: str
    occasion: str = ""
    """What tells it from another one in the same words, which would be taken for the same Event said again."""
