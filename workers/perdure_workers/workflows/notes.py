"""Events as the workflow words them."""

from __future__ import annotations

from perdure_api.conditions import Reason
from perdure_api.events import EventKind, EventNote


def note(reason: Reason, message: str) -> EventNote:
    """An Event of something that goes its way."""
    return EventNote(kind=EventKind.NORMAL, reason=reason, message=message)


def warning(reason: Reason, message: str) -> EventNote:
    """An Event of something that somebody may want to look at."""
    return EventNote(kind=EventKind.WARNING, reason=reason, message=message)
