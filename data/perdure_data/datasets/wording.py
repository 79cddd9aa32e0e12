"""How a message shows what was found: short, printable, and with the name that JSON has for it."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, Final

_SHOWN: Final = 40
_NAMES_SHOWN: Final = 6


def shown(text: str) -> str:
    """The beginning of a text, on one line."""
    printable = "".join(character if character.isprintable() else "�" for character in text[: _SHOWN + 1])
    return f"{printable[:_SHOWN]}…" if len(text) > _SHOWN else printable


def shown_value(value: Any) -> str:
    """The kind of a value, and its beginning."""
    return "null" if value is None else f"{kind_of(value)} ({shown(json.dumps(value, default=repr))})"


def names(found: Collection[str]) -> str:
    """The names of some fields or files."""
    some = [f'"{shown(name)}"' for name in list(found)[:_NAMES_SHOWN]]
    more = f" and {len(found) - len(some)} more" if len(found) > len(some) else ""
    return ", ".join(some) + more if some else "no fields"


def kind_of(value: Any) -> str:
    """What a value is called in JSON, with its article."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case bytes():
            return "binary data"
        case list():
            return "a list"
        case _:
            return "an object"


def not_utf8(byte: int, position: int) -> str:
    """The sentence for a byte that belongs to no character."""
    return f"byte {position} (0x{byte:02x}) is no valid UTF-8; a dataset must be UTF-8 text. Convert it, or repair it"
