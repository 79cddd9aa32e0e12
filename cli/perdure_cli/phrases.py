"""Durations, numbers and times as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import Final

_UNITS: Final = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


def duration(seconds: float) -> str:
    """The two largest units: `3 min 12 s`, `2 h 5 min`, `4 d`."""
    left = max(0, round(seconds))
    if left == 0:
        return "0 s"
    first = next(index for index, (_, size) in enumerate(_UNITS) if left >= size)
    parts = []
    for name, size in _UNITS[first : first + 2]:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {name}")
    return " ".join(parts)


def age(seconds: float) -> str:
    """One unit, as kubectl writes it: `12s`, `5m`, `3h`, `2d`."""
    left = max(0, int(seconds))
    for suffix, size, until in (("s", 1, 120), ("m", 60, 7200), ("h", 3600, 172_800)):
        if left < until:
            return f"{left // size}{suffix}"
    return f"{left // 86_400}d"


def number(value: float) -> str:
    """With thousands apart and no more digits than mean something: `12,345`, `2.314`, `0.0002`."""
    if float(value).is_integer() or abs(value) >= 1000:  # noqa: PLR2004 - from there on a fraction says nothing
        return f"{value:,.0f}"
    return f"{value:.4g}"


def moment(text: str | None) -> datetime | None:
    """The time that an RFC 3339 text names; None when it is none."""
    if not text:
        return None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def clock(when: datetime, zone: tzinfo | None, *, today: datetime) -> str:
    """`14:03:12`, with the date before it where that is not today's."""
    local = when.astimezone(zone)
    if local.date() == today.astimezone(zone).date():
        return f"{local:%H:%M:%S}"
    return f"{local:%Y-%m-%d %H:%M:%S}"


def counted(count: int, noun: str) -> str:
    """`1 attempt`, `2 attempts`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
