"""Which values are taken, and what is said about the others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.chart.rendered import CHART, LEAST, Chart, Document, Refusal, Values
from tests.chart.switches import DEFAULTS, FREE_FORM, SCHEMA, described

QUICK_STARTS: Values = {
    "temporal": {"address": "", "quickStart": {"enabled": True}},
    "objectStore": {"quickStart": {"enabled": True, "secretKey": "a-secret-key"}},
}


def _paths_of_maps(values: Document, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for key, value in values.items():
        if isinstance(value, dict) and key not in FREE_FORM:
            yield from _paths_of_maps(value, (*path, key))


def _nested(path: tuple[str, ...], value: Any) -> Document:
    for key in reversed(path):
        value = {key: value}
    return dict(value)


def test_a_typo_in_any_map_is_refused_by_name(chart: Chart) -> None:
    paths = list(_paths_of_maps(DEFAULTS))

    with pytest.raises(Refusal) as refusal:
        chart.text(LEAST, *(_nested((*path, "enabeld"), True) for path in paths))

    refused = re.findall(r"(?m)^- (\S+): Additional property enabeld is not allowed$", str(refusal.value))
    assert sorted(refused) == sorted(".".join(path) or "(root)" for path in paths)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"worker": {"replicas": "two"}}, "worker.replicas: Invalid type"),
        ({"worker": {"slots": 0}}, "worker.slots: Must be greater than or equal to 1"),
        ({"logLevel": "loud"}, "logLevel: logLevel must be one of"),
        ({"temporal": {"address": "temporal"}}, "temporal.address: Does not match pattern"),
        ({"temporal": {"tls": {"existingSecret": "A"}}}, "temporal.tls.existingSecret: Does not match pattern"),
        ({"temporal": {"tls": {"enabled": "yes"}}}, "temporal.tls.enabled: Invalid type"),
        ({"temporal": {"apiKey": {"key": "a/b"}}}, "temporal.apiKey.key: Does not match pattern"),
        ({"objectStore": {"endpoint": "s3.example.com"}}, "objectStore.endpoint: Does not match pattern"),
        ({"objectStore": {"env": {"A": 1}}}, "objectStore.env.A: Invalid type"),
        ({"watchNamespaces": "team-a"}, "watchNamespaces: Invalid type"),
        ({"operator": {"resources": {"limit": {}}}}, "Additional property limit is not allowed"),
        ({"limits": {"maxConcurrentJobs": -1}}, "limits.maxConcurrentJobs: Must be greater than or equal to 0"),
        ({"limits": {"maxConcurrentJobs": 1.5}}, "limits.maxConcurrentJobs: Invalid type"),
        ({"limits": {"maxConcurrentJobsPerNamespace": "4"}}, "limits.maxConcurrentJobsPerNamespace: Invalid type"),
        ({"limits": {"namespaces": {"ml": None}}}, "limits.namespaces.ml: Invalid type"),
        ({"limits": {"namespaces": {"Ml": 1}}}, "limits.namespaces"),
        ({"operator": {"tolerations": [{"efect": "NoSchedule"}]}}, "Additional property efect is not allowed"),
        ({"networkPolicies": {"dns": {"to": [{"podselector": {}}]}}}, "Additional property podselector is not allowed"),
        ({"networkPolicies": {"dns": {"to": [{"ipBlock": "192.0.2.0/24"}]}}}, "networkPolicies.dns.to.0.ipBlock"),
        ({"networkPolicies": {"dns": {"ports": []}}}, "networkPolicies.dns.ports: Array must have at least 1 items"),
        ({"networkPolicies": {"objectStore": {"ports": [70000]}}}, "networkPolicies.objectStore.ports.0: Must be less"),
        ({"networkPolicies": {"extraEgress": {"training": [{"from": []}]}}}, "Additional property from is not allowed"),
    ],
    ids=lambda value: "" if isinstance(value, str) else json.dumps(value),
)
def test_a_value_of_the_wrong_form_is_refused_by_name(chart: Chart, values: Values, message: str) -> None:
    with pytest.raises(Refusal) as refusal:
        chart.text(LEAST, values)

    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        pytest.param({"image": {"registry": ""}}, "image.registry is empty", id="no registry"),
        pytest.param({"temporal": {"address": ""}}, "Found no Temporal", id="no Temporal"),
        pytest.param(
            {"temporal": {"quickStart": {"enabled": True}}},
            "Found temporal.address (temporal:7233) and temporal.quickStart.enabled",
            id="two Temporals",
        ),
        pytest.param(
            {"temporal": {"address": "", "tls": {"enabled": True}, "quickStart": {"enabled": True}}},
            "Found temporal.tls.enabled and temporal.quickStart.enabled, expected one of them",
            id="TLS to a quick start",
        ),
        pytest.param(
            {"temporal": {"tls": {"existingSecret": "client"}}},
            "Found temporal.tls.existingSecret (client) and no temporal.tls.enabled",
            id="certificates in the clear",
        ),
        pytest.param(
            {"temporal": {"tls": {"serverName": "frontend"}}},
            "Found temporal.tls.serverName (frontend) and no temporal.tls.enabled",
            id="a server's name in the clear",
        ),
        pytest.param(
            {"temporal": {"apiKey": {"existingSecret": "key"}}},
            "Found temporal.apiKey.existingSecret (key) and no temporal.tls.enabled, expected both",
            id="an API key in the clear",
        ),
        pytest.param(
            {"objectStore": {"endpoint": "https://s3", "quickStart": {"enabled": True, "secretKey": "a-secret-key"}}},
            "Found objectStore.endpoint (https://s3) and objectStore.quickStart.enabled",
            id="two object stores",
        ),
        pytest.param(
            {"objectStore": {"quickStart": {"enabled": True}}}, "quickStart.secretKey is empty", id="no secret key"
        ),
        pytest.param(
            {"objectStore": {"secretName": "", "quickStart": {"enabled": True, "secretKey": "a-secret-key"}}},
            "no objectStore.secretName",
            id="nowhere to put credentials",
        ),
        pytest.param(
            {"networkPolicies": {"enabled": True}},
            "Found networkPolicies.enabled and no networkPolicies.objectStore.to",
            id="a store that policies do not know",
        ),
        pytest.param(
            {
                "networkPolicies": {"enabled": True, "objectStore": {"to": [{"podSelector": {}}]}},
                "metrics": {"podMonitor": {"enabled": True}},
            },
            "Found networkPolicies.enabled, metrics.podMonitor.enabled and no networkPolicies.monitoring.from",
            id="a Prometheus that policies do not know",
        ),
    ],
)
def test_values_that_contradict_each_other_are_refused_with_a_sentence(
    chart: Chart, values: Values, sentence: str
) -> None:
    with pytest.raises(Refusal) as refusal:
        chart.text(LEAST, values)

    assert sentence in str(refusal.value)


def test_the_least_values_are_enough(chart: Chart) -> None:
    assert chart.documents(LEAST)


def test_both_quick_starts_go_together(chart: Chart) -> None:
    kinds = [document["kind"] for document in chart.documents(LEAST, QUICK_STARTS)]

    assert kinds.count("StatefulSet") == 2


def test_the_defaults_satisfy_the_schema_as_they_are(chart: Chart) -> None:
    """A default of the wrong form would surface as somebody's mistake."""
    with pytest.raises(Refusal) as refusal:
        chart.text()

    assert "image.registry is empty" in str(refusal.value)


def _rows(values: Document, schema: Document, path: tuple[str, ...] = ()) -> Iterator[str]:
    """The table of values as the README has it."""
    for key, value in values.items():
        node = described(schema["properties"][key])
        if isinstance(value, dict) and key not in FREE_FORM:
            yield from _rows(value, node, (*path, key))
        else:
            description = node["description"].replace("<", "&lt;").replace(">", "&gt;")
            yield f"| `{'.'.join((*path, key))}` | `{json.dumps(value, ensure_ascii=False)}` | {description} |"


def test_the_readmes_table_names_every_value_with_its_default_and_meaning() -> None:
    readme = (CHART / "README.md").read_text()
    table = readme[readme.index("| Value |") :].splitlines()

    assert table == ["| Value | Default | |", "|---|---|---|", *_rows(DEFAULTS, SCHEMA)]


def test_every_value_of_the_schema_has_a_default() -> None:
    def keys(schema: Document, values: Document) -> Iterator[str]:
        for key, node in schema.get("properties", {}).items():
            if key == "global":  # helm's own
                continue
            assert key in values, f"values.schema.json knows {key}, values.yaml does not"
            yield key
            if isinstance(values[key], dict) and key not in FREE_FORM:
                yield from keys(described(node), values[key])

    assert list(keys(SCHEMA, DEFAULTS))
