"""What a worker's pod says about its slots: `{"perdure-cpu": 3}` as an annotation."""

from __future__ import annotations

import json
from collections.abc import Mapping


class SlotsUnreadable(ValueError):
    """An annotation that no worker wrote; the message says what was found and what was expected."""


def slots_text(used: Mapping[str, int]) -> str:
    """The annotation for slots in use by task queue; the same for the same slots."""
    return json.dumps(dict(used), sort_keys=True, separators=(",", ":"))


def read_slots(text: str) -> dict[str, int]:
    """Slots in use by task queue.

    Raises:
        SlotsUnreadable: it is something else.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SlotsUnreadable(f"found {text[:100]!r}, expected JSON such as {EXAMPLE}: {error}") from error
    if not isinstance(found, dict) or not all(type(count) is int and count >= 0 for count in found.values()):
        raise SlotsUnreadable(f"found {text[:100]!r}, expected counts by task queue such as {EXAMPLE}")
    return found


EXAMPLE = slots_text({"perdure-cpu": 3})
