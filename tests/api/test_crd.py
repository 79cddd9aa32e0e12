"""The CRD as a document: fresh, documented, bounded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from perdure_api import crd

Node = dict[str, Any]


def nodes(schema: Node, path: str) -> Iterator[tuple[str, Node]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if isinstance(schema.get("items"), dict):
        yield from nodes(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from nodes(schema["additionalProperties"], f"{path}{{}}")


def schema() -> Node:
    version = crd.custom_resource_definition()["spec"]["versions"][0]
    result: Node = version["schema"]["openAPIV3Schema"]["properties"]
    return result


def everything() -> list[tuple[str, Node]]:
    return [*nodes(schema()["spec"], "spec"), *nodes(schema()["status"], "status")]


def test_the_checked_in_copies_are_what_the_models_say() -> None:
    assert crd.PLAIN.read_text() == crd.render()
    assert crd.IN_CHART.read_text() == crd.render()


def test_every_field_is_described() -> None:
    silent = [path for path, node in everything() if not path.endswith(("[]", "{}")) and not node.get("description")]

    assert silent == []


def test_every_text_list_and_map_of_the_spec_is_bounded_since_cel_pays_for_what_is_not() -> None:
    unbounded = [
        path
        for path, node in nodes(schema()["spec"], "spec")
        if (node.get("type") == "string" and "maxLength" not in node and "enum" not in node)
        or (node.get("type") == "array" and "maxItems" not in node)
        or ("additionalProperties" in node and "maxProperties" not in node)
    ]

    assert unbounded == []


def test_every_number_of_the_spec_has_a_least_and_a_most() -> None:
    spec = nodes(schema()["spec"], "spec")
    unbounded = [
        path
        for path, node in spec
        if node.get("type") in {"integer", "number"} and not ("minimum" in node and "maximum" in node)
    ]

    assert unbounded == []


def test_every_part_of_the_spec_but_what_is_decided_late_is_immutable() -> None:
    spec = schema()["spec"]
    rules = [rule["rule"] for rule in spec["x-kubernetes-validations"]]
    mutable = [name for name in spec["properties"] if not any(f"oldSelf.{name})" in rule for rule in rules)]

    assert mutable == ["priority", "suspend", "ttlSecondsAfterFinished", "deletionPolicy"]
