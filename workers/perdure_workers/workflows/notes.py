"""Events as the workflow words them."""

from __future__ import annotations

from perdure_api.conditions import Reason
from perdure_api.events import EventKind, EventNote


def note(reason: Reason, message: str, occasion: int | None = None) -> EventNote:
    """An Event of something that goes its way.

    Args:
        reason: Why, in one word.
        message: Why, in a sentence.
        occasion: A number that is another one when the same is to be told once more; None: once is enough.
    """
    told = "" if occasion is None else str(occasion)
    return EventNote(kind=EventKind.NORMAL, reason=reason, message=message, occasion=told)


def warning(reason: Reason, message: str) -> EventNote:
    """An Event of something that somebody may want to look at."""
    return EventNote(kind=EventKind.WARNING, reason=reason, message=message)
