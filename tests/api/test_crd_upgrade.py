"""The CRD is replaced under live objects: what an earlier one took stays valid, and nothing of it is lost."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from perdure_api import names
from perdure_api.crd import PLAIN
from perdure_api.spec import TrainingJobSpec
from perdure_api.status import TrainingJobStatus
from tests.conftest import ApiServer

Document = dict[str, Any]
EARLIER: Final = sorted((Path(__file__).parent / "crds").glob("*.yaml"))
BOUNDS: Final = {"maximum": -1, "maxLength": -1, "maxItems": -1, "maxProperties": -1, "minimum": 1, "minLength": 1}
"""Of a field, and in which direction each would take less."""
SECONDS: Final = 30.0
WHEN: Final = "2026-11-22T12:00:00Z"
COMMAND: Final[Document] = {"trainer": {"image": "i", "command": ["true"]}}
BUILT_IN: Final[Document] = {
    "model": {"uri": "s3://b/model"},
    "dataset": {"uri": "s3://b/train.jsonl", "evalFraction": 0.2},
    "output": {"uri": "s3://b/out"},
    "lora": {"rank": 8},
    "training": {"maxSteps": 10},
    "retry": {"maxAttempts": 7},
}
TWICE: Final[Document] = {**BUILT_IN, "dataset": {"uri": "s3://b//train.jsonl"}}
"""Its URI was taken once, and is not any more."""


def condition(type_: str, status: str, reason: str) -> Document:
    return {"type": type_, "status": status, "reason": reason, "message": "m", "lastTransitionTime": WHEN}


def status(phase: str, *conditions: Document, **more: Any) -> Document:
    return {"phase": phase, "reason": "R", "message": "m", "conditions": list(conditions), "startTime": WHEN, **more}


ATTEMPT: Final[Document] = {"number": 1, "job": "j-1", "startTime": WHEN, "node": "n1", "fromStep": 0}
RUNNING: Final = status(
    "Running",
    condition("Running", "True", "PodRunning"),
    condition("Succeeded", "Unknown", "Pending"),
    progress={"step": 4, "totalSteps": 10, "percent": 40, "metrics": {"loss": 0.5}, "lastUpdated": WHEN},
    attempts=[ATTEMPT],
    attemptCounters={"started": 1},
    checkpoint={"uri": "s3://b/out/runs/u/attempts/1/checkpoints/step-4", "step": 4, "time": WHEN},
    workflow={"id": "trainingjob/ns/j/u", "runId": "r"},
)
SUCCEEDED: Final = status(
    "Succeeded",
    condition("Succeeded", "True", "Completed"),
    completionTime=WHEN,
    attempts=[{**ATTEMPT, "endTime": WHEN, "reason": "Completed", "exitCode": 0, "toStep": 10}],
    attemptCounters={"started": 1},
    result={"adapterUri": "s3://b/out/adapter", "metrics": {"eval_loss": 0.4}, "baseMetrics": {"eval_loss": 0.9}},
)
FAILED: Final = status("Failed", condition("Succeeded", "False", "MaxAttemptsReached"), completionTime=WHEN)
LIVE: Final[dict[str, tuple[Document, Document | None]]] = {
    "new": (BUILT_IN, None),
    "running": (BUILT_IN, RUNNING),
    "own": (COMMAND, RUNNING),
    "odd": (TWICE, RUNNING),
    "succeeded": (BUILT_IN, SUCCEEDED),
    "failed": (COMMAND, FAILED),
}
"""Objects by name, as an earlier release made them and wrote their status."""


def get(server: ApiServer, name: str) -> Document:
    document: Document = json.loads(server.kubectl("get", "trainingjob", name, "-o", "json"))
    return document


def patch(server: ApiServer, name: str, change: Document, *options: str) -> tuple[int, str]:
    return server.ask("patch", "trainingjob", name, "--type=merge", "-p", json.dumps(change), *options)


def keeps(before: Any, after: Any) -> bool:
    """Whether all that was there is there: defaults may have come to it."""
    if isinstance(before, dict):
        return isinstance(after, dict) and all(key in after and keeps(before[key], after[key]) for key in before)
    if isinstance(before, list):
        return isinstance(after, list) and len(before) == len(after) and all(map(keeps, before, after))
    return bool(before == after)


def schema_of(path: Path) -> Document:
    (version,) = yaml.safe_load(path.read_text())["spec"]["versions"]
    schema: Document = version["schema"]["openAPIV3Schema"]
    return schema


def narrowed(old: Document, new: Document | None, path: str = "") -> Iterator[str]:
    """Where a schema takes less than it did. CEL rules are left out: the API server asks them of what changes only."""
    if new is None:
        yield f"{path} is gone"
        return
    if old.get("type") != new.get("type"):
        yield f"{path} was {old.get('type')}, is {new.get('type')}"
    if more := set(new.get("required", [])) - set(old.get("required", [])):
        yield f"{path} asks for {sorted(more)}"
    if "enum" in new and not set(new["enum"]) >= set(old.get("enum", [])):
        yield f"{path} was one of {old.get('enum')}, is one of {new['enum']}"
    yield from closer(old, new, path)
    if new.get("pattern") not in {None, old.get("pattern")}:
        yield f"{path} must match {new['pattern']}"
    for name, field in old.get("properties", {}).items():
        yield from narrowed(field, new.get("properties", {}).get(name), f"{path}.{name}")
    for inner in ("items", "additionalProperties"):
        if isinstance(old.get(inner), dict):
            yield from narrowed(old[inner], new.get(inner), f"{path}[]")


def closer(old: Document, new: Document, path: str) -> Iterator[str]:
    """Bounds of a field that were none, or further away."""
    for bound, direction in BOUNDS.items():
        if bound in new and (bound not in old or direction * new[bound] > direction * old[bound]):
            yield f"{path} had {bound} {old.get(bound)}, has {new[bound]}"


@pytest.mark.parametrize("earlier", EARLIER, ids=lambda path: path.stem)
def test_the_schema_takes_whatever_an_earlier_one_took(earlier: Path) -> None:
    assert list(narrowed(schema_of(earlier), schema_of(PLAIN))) == []


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ({"properties": {"a": {}}}, {"properties": {}}, ".a is gone"),
        ({"type": "integer"}, {"type": "string"}, " was integer, is string"),
        ({}, {"required": ["a"]}, " asks for ['a']"),
        ({"enum": ["a", "b"]}, {"enum": ["a"]}, " was one of ['a', 'b'], is one of ['a']"),
        ({"maximum": 9}, {"maximum": 8}, " had maximum 9, has 8"),
        ({}, {"minimum": 1}, " had minimum None, has 1"),
        ({"items": {"minLength": 1}}, {"items": {"minLength": 2}}, "[] had minLength 1, has 2"),
        ({"maximum": 8, "minimum": 1}, {"maximum": 9, "minimum": 0}, None),
        ({"enum": ["a"], "required": ["a"]}, {"enum": ["a", "b"]}, None),
    ],
)
def test_a_schema_that_takes_less_is_told_from_one_that_takes_more(
    old: Document, new: Document, says: str | None
) -> None:
    assert list(narrowed(old, new)) == ([says] if says else [])


@pytest.fixture(scope="module", params=EARLIER, ids=lambda path: path.stem)
def before(api_server_without_perdure: ApiServer, request: pytest.FixtureRequest) -> dict[str, Document]:
    """Objects as they were read under the earlier CRD; when this returns, the present one is in force."""
    server = api_server_without_perdure
    server.kubectl("apply", "-f", str(request.param))
    server.kubectl("wait", "--for=condition=Established", "-f", str(request.param), f"--timeout={SECONDS:.0f}s")
    for name, (spec, told) in LIVE.items():
        document = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": {"name": name}, "spec": spec}
        server.kubectl("create", "--validate=strict", "-f", "-", document=document)
        if told:
            code, said = patch(server, name, {"status": told}, "--subresource=status")
            assert code == 0, said
    documents = {name: get(server, name) for name in LIVE}
    assert all(keeps(told, documents[name]["status"]) for name, (_, told) in LIVE.items() if told)
    server.kubectl("apply", "-f", str(PLAIN))
    fresh = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": {"name": "fresh"}}
    newer = {**fresh, "spec": {**COMMAND, "deletionPolicy": "DeleteCheckpoints"}}
    deadline = time.monotonic() + SECONDS
    while server.ask("create", "--dry-run=server", "--validate=strict", "-f", "-", document=newer)[0] != 0:
        assert time.monotonic() < deadline, "the present CRD is not in force"
    return documents


@pytest.mark.cluster
@pytest.mark.parametrize("name", LIVE)
def test_an_object_of_an_earlier_release_reads_as_before(
    api_server_without_perdure: ApiServer, before: dict[str, Document], name: str
) -> None:
    after = get(api_server_without_perdure, name)

    assert keeps(before[name]["spec"], after["spec"])
    assert keeps(before[name]["status"], after["status"])
    assert after["metadata"]["generation"] == before[name]["metadata"]["generation"]
    assert TrainingJobStatus.model_validate(after["status"]).phase == before[name]["status"]["phase"]
    if name != "odd":
        TrainingJobSpec.model_validate(after["spec"])


@pytest.mark.cluster
@pytest.mark.parametrize("name", ["new", "running", "own", "odd"])
def test_what_had_not_finished_goes_on_and_can_be_steered(
    api_server_without_perdure: ApiServer, before: dict[str, Document], name: str
) -> None:
    server = api_server_without_perdure
    told = {"status": {"phase": "Running", "progress": {"step": 9, "lastUpdated": WHEN}, "suspendedSeconds": 3}}

    for change, options in ((told, ("--subresource=status",)), ({"spec": {"suspend": True}}, ())):
        code, said = patch(server, name, change, *options)
        assert code == 0, said

    after = get(server, name)
    assert (after["status"]["progress"]["step"], after["spec"]["suspend"]) == (9, True)


@pytest.mark.cluster
@pytest.mark.parametrize("name", ["running", "own"])
def test_that_a_run_is_a_fact_holds_for_it_too(
    api_server_without_perdure: ApiServer, before: dict[str, Document], name: str
) -> None:
    code, said = patch(api_server_without_perdure, name, {"spec": {"retry": {"maxAttempts": 1}}})

    assert code != 0
    assert "spec.retry cannot change" in said


@pytest.mark.cluster
@pytest.mark.parametrize("name", ["succeeded", "failed"])
def test_what_had_finished_stays_as_it_ended(
    api_server_without_perdure: ApiServer, before: dict[str, Document], name: str
) -> None:
    code, said = patch(api_server_without_perdure, name, {"status": {"phase": "Running"}}, "--subresource=status")

    assert code != 0
    assert names.FINAL_STATUS_MESSAGE in said
