"""Validation rules that the API server itself evaluates (CEL), attached to models and fields."""

from __future__ import annotations

from typing import Any, Final

KEY: Final = "x-kubernetes-validations"

_BUCKET: Final = "[a-zA-Z0-9$][a-zA-Z0-9._-]*"
_PATH: Final = "(/[^/?#[:cntrl:]]+)+/?"
_NO_DOTS: Final = "!self.matches('/[.][.]?(/|$)')"
MODEL_URI: Final = f"self.matches('^((s3|gs|az)://{_BUCKET}|file://){_PATH}$') && {_NO_DOTS}"
STORE_URI: Final = f"self.matches('^(s3|gs|az)://{_BUCKET}{_PATH}$') && {_NO_DOTS}"
"""What `perdure_api.uri.parse_uri` takes, told when the object is applied; tests hold them together."""


def rule(expression: str, message: str) -> dict[str, str]:
    """One rule: the message says what was expected and what to do."""
    return {"rule": expression, "message": message}


def rules(*each: dict[str, str]) -> dict[str, Any]:
    """Rules in the form of a JSON schema extension."""
    return {KEY: list(each)}


def immutable(field: str, *, required: bool = False) -> dict[str, str]:
    """The rule that an object's field keeps its value, its absence included.

    A per-field `self == oldSelf` alone would let an optional field be added or removed.
    """
    same = f"self.{field} == oldSelf.{field}"
    expression = same if required else f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || {same})"
    return rule(
        expression,
        f"spec.{field} cannot change: a run is a fact. Create a new TrainingJob with the new value",
    )
