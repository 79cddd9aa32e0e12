"""Label selectors as Kubernetes writes them in queries: `queue=a`, `queue in (a,b),temporal_namespace!=c`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_KEY: Final = r"[A-Za-z0-9](?:[-A-Za-z0-9_./]*[A-Za-z0-9])?"
_VALUE: Final = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?"
_EQUALITY: Final = re.compile(rf"\s*(?P<key>{_KEY})\s*(?P<sign>==|=|!=)\s*(?P<value>{_VALUE})\s*")
_SET: Final = re.compile(rf"\s*(?P<key>{_KEY})\s+(?P<sign>in|notin)\s*\((?P<values>[^()]*)\)\s*")
_PRESENCE: Final = re.compile(rf"\s*(?P<sign>!?)\s*(?P<key>{_KEY})\s*")
_COMMA_OUTSIDE_BRACKETS: Final = re.compile(r",(?![^(]*\))")


class BadSelector(ValueError):
    """A text that is no label selector; the message says what was found and what was expected."""


@dataclass(frozen=True)
class Requirement:
    """One part of a selector; all of them must be met."""

    key: str
    values: frozenset[str] | None
    """None: any value, if only there is one."""
    negated: bool = False

    def met_by(self, labels: Mapping[str, str]) -> bool:
        """Whether labels meet it. As in Kubernetes, what has no such label meets a negated one."""
        value = labels.get(self.key)
        met = value is not None and (self.values is None or value in self.values)
        return met is not self.negated


def parse_selector(text: str) -> tuple[Requirement, ...]:
    """The requirements of a selector; none for an empty one, which everything meets.

    Raises:
        BadSelector: it is none.
    """
    if not text.strip():
        return ()
    return tuple(_requirement(part) for part in _COMMA_OUTSIDE_BRACKETS.split(text))


def _requirement(text: str) -> Requirement:
    if found := _EQUALITY.fullmatch(text):
        return Requirement(found["key"], frozenset({found["value"]}), negated=found["sign"] == "!=")
    if found := _SET.fullmatch(text):
        values = frozenset(value.strip() for value in found["values"].split(","))
        if all(re.fullmatch(_VALUE, value) for value in values):
            return Requirement(found["key"], values, negated=found["sign"] == "notin")
    elif found := _PRESENCE.fullmatch(text):
        return Requirement(found["key"], None, negated=bool(found["sign"]))
    raise BadSelector(f'labelSelector has "{text.strip()}", expected such as queue=NAME or queue in (NAME,NAME)')
