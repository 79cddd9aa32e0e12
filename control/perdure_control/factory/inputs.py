"""An input as somebody wrote it, read into the workflow's model or refused field by field."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from perdure_control.factory.entry import WorkflowEntry
from perdure_control.factory.errors import InvalidInput

Input = TypeVar("Input", bound=BaseModel)

_SHOWN_CHARACTERS: Final = 80


def read_input(entry: WorkflowEntry[Input], given: object) -> Input:
    """The input of a workflow.

    A field that the model does not have is refused, even where the model itself would drop it: workers are tolerant of
    what newer releases send, people are told of their typos.

    Raises:
        InvalidInput: every field with what was found and what was expected.
    """
    if isinstance(given, entry.input):
        return given
    if not isinstance(given, Mapping):
        raise InvalidInput(
            f"the input of {entry.name} is {_shown(given)}; expected a mapping with the fields "
            f"{', '.join(fields(entry.input))}"
        )
    extra = None if entry.input.model_config.get("extra") == "allow" else "forbid"
    try:
        return entry.input.model_validate(given, extra=extra)  # type: ignore[arg-type]
    except ValidationError as error:
        problems = "; ".join(_sentence(problem, entry.input) for problem in error.errors(include_url=False))
        raise InvalidInput(f"the input of {entry.name}: {problems}") from error


def fields(model: type[BaseModel]) -> list[str]:
    """The names of a model's fields, as they are written."""
    return list(model.model_json_schema().get("properties", {}))


def _sentence(problem: ErrorDetails, model: type[BaseModel]) -> str:
    path = [str(part) for part in problem["loc"]]
    where = ".".join(path) or "as a whole"
    match problem["type"]:
        case "missing":
            return f"{where} is missing"
        case "extra_forbidden":
            there = _fields_beside(model, path)
            near = difflib.get_close_matches(path[-1], there, n=1, cutoff=0.5)
            hint = f'did you mean "{near[0]}"?' if near else f"expected one of {', '.join(there)}"
            return f"there is no field {where}; {hint}"
        case _:
            return f"{where}: {problem['msg'].removeprefix('Value error, ')} (found {_shown(problem['input'])})"


def _fields_beside(model: type[BaseModel], path: list[str]) -> list[str]:
    """The fields of the part of a model that a path's last field would be in."""
    schema = model.model_json_schema()
    part: Any = schema
    for step in path[:-1]:
        part = _resolved(part, schema)
        part = part.get("properties", {}).get(step) or part.get("items") or part.get("additionalProperties") or {}
    return list(_resolved(part, schema).get("properties", {}))


def _resolved(part: Any, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """A part of a schema that stands elsewhere in it, or is one of two of which the other is null."""
    if not isinstance(part, Mapping):
        return {}
    if reference := part.get("$ref"):
        return _resolved(schema["$defs"][reference.rsplit("/", 1)[-1]], schema)
    choices = [each for each in part.get("anyOf") or part.get("allOf") or [] if each.get("type") != "null"]
    return _resolved(choices[0], schema) if choices else part


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
