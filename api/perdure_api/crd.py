"""The CustomResourceDefinition, made from the models.

`python -m perdure_api.crd [--check]` writes (or compares) the checked-in copies.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import yaml

from perdure_api import names
from perdure_api.spec import TrainingJobSpec
from perdure_api.status import TrainingJobStatus

ROOT: Final = Path(__file__).resolve().parents[2]
PLAIN: Final = ROOT / "crds" / "trainingjobs.perdure.dev.yaml"
IN_CHART: Final = ROOT / "charts" / "perdure" / "files" / "crd-trainingjobs.yaml"

_KEPT: Final = frozenset(
    {
        "type", "description", "default", "enum", "format", "pattern",
        "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
        "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "required",
    }
)  # fmt: skip


def custom_resource_definition() -> dict[str, Any]:
    """The CRD as an object."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names.PLURAL}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "names": {
                "kind": names.KIND,
                "listKind": f"{names.KIND}List",
                "plural": names.PLURAL,
                "singular": names.SINGULAR,
                "shortNames": [names.SHORT_NAME],
                "categories": ["ml"],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": names.VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": _columns(),
                    "schema": {"openAPIV3Schema": _object_schema()},
                }
            ],
        },
    }


def _columns() -> list[dict[str, Any]]:
    def column(name: str, type_: str, path: str, priority: int = 0) -> dict[str, Any]:
        wide = {"priority": priority} if priority else {}
        return {"name": name, "type": type_, "jsonPath": path, **wide}

    return [
        column("Phase", "string", ".status.phase"),
        column("Progress", "integer", ".status.progress.percent"),
        column("Step", "integer", ".status.progress.step"),
        column("ETA", "integer", ".status.progress.etaSeconds"),
        column("Attempts", "integer", ".status.attemptCounters.started"),
        column("Queue", "integer", ".status.queue.position", priority=1),
        column("Reason", "string", ".status.reason", priority=1),
        column("Adapter", "string", ".status.result.adapterUri", priority=1),
        column("Age", "date", ".metadata.creationTimestamp"),
    ]


def _object_schema() -> dict[str, Any]:
    spec = structural_schema(TrainingJobSpec.model_json_schema(by_alias=True, mode="validation"))
    status = structural_schema(TrainingJobStatus.model_json_schema(by_alias=True, mode="validation"))
    return {
        "type": "object",
        "description": "A training job that always finishes: started, watched, retried and resumed until there is "
        "an adapter, or one sentence that says why not.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
    }


def structural_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """A structural schema (the API server's dialect) of a JSON schema by pydantic.

    References are written out, `X | None` becomes an optional X, titles go, numbers keep their limits in the form of
    OpenAPI 3.0 (exclusive limits are flags there).
    """
    return _convert(schema, schema.get("$defs", {}))


def _convert(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    node = _resolve(node, definitions)
    if node.get("x-kubernetes-int-or-string"):
        return _int_or_string(node)
    result = {key: value for key, value in node.items() if key in _KEPT or key.startswith("x-kubernetes-")}
    _convert_limits(result)
    if "properties" in node:
        result["properties"] = {name: _convert(child, definitions) for name, child in node["properties"].items()}
    if "items" in node:
        result["items"] = _convert(node["items"], definitions)
    if isinstance(node.get("additionalProperties"), dict):
        result["additionalProperties"] = _convert(node["additionalProperties"], definitions)
    if result.get("default", 0) is None:
        del result["default"]
    return result


def _resolve(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The node with its reference written out, and the one real alternative of an optional field chosen."""
    outer = {key: value for key, value in node.items() if key not in {"$ref", "anyOf", "allOf"}}
    if "$ref" in node:
        inner = _resolve(definitions[node["$ref"].removeprefix("#/$defs/")], definitions)
    elif "anyOf" in node:
        real = [choice for choice in node["anyOf"] if choice.get("type") != "null"]
        inner = _resolve(real[0], definitions) if len(real) == 1 else {}
    else:
        return node
    merged = {**inner, **outer}
    if inner.get("type") == "object" and "description" in inner and "description" in outer:
        merged["description"] = f"{inner['description']} {outer['description']}"
    if inner.get(_RULES) and outer.get(_RULES):
        merged[_RULES] = [*inner[_RULES], *outer[_RULES]]
    return merged


_RULES: Final = "x-kubernetes-validations"


def _int_or_string(node: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {key: node[key] for key in ("description", "pattern", "maxLength") if key in node}
    return {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True, **kept}


def _convert_limits(schema: dict[str, Any]) -> None:
    for limit, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if exclusive in schema:
            schema[limit] = schema.pop(exclusive)
            schema[exclusive] = True


class _Dumper(yaml.SafeDumper):
    """Writes lists indented below their key, and the same object twice instead of an anchor."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002
        super().increase_indent(flow, indentless=False)


def render() -> str:
    """The CRD as YAML."""
    header = "# Made from api/perdure_api by `make generate`. Do not edit.\n"
    body = yaml.dump(custom_resource_definition(), Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)
    return header + body


def main(arguments: list[str]) -> int:
    """Writes the checked-in copies; with --check only says which are stale.

    Returns:
        The exit status: 1 when a copy is stale.
    """
    text = render()
    stale = [path for path in (PLAIN, IN_CHART) if not path.exists() or path.read_text() != text]
    if "--check" in arguments:
        for path in stale:
            sys.stderr.write(f"{path.relative_to(ROOT)} is not what the models say; run `make generate`\n")
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        sys.stdout.write(f"wrote {path.relative_to(ROOT)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
