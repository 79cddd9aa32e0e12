"""The CRD in a real API server: what it takes, what it refuses, and in which words."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from perdure_api import names
from perdure_api.uri import UriError, parse_uri
from tests.conftest import ApiServer

pytestmark = pytest.mark.cluster

Document = dict[str, Any]

GOOD: Document = {
    "model": {"uri": "s3://b/model"},
    "dataset": {"uri": "s3://b/train.jsonl"},
    "output": {"uri": "s3://b/out"},
    "training": {"maxSteps": 10},
}


def with_(**parts: Any) -> Document:
    """A good spec with parts changed; a part that is None is left out."""
    merged = {**copy.deepcopy(GOOD), **parts}
    return {name: value for name, value in merged.items() if value is not None}


def training_job(spec: Document, name: str = "job") -> Document:
    return {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": {"name": name}, "spec": spec}


def refusal(server: ApiServer, *arguments: str, document: object = None) -> str:
    """What kubectl says; it must be refused."""
    code, said = server.ask(*arguments, document=document)
    assert code != 0, f"kubectl {' '.join(arguments)} was not refused: {said}"
    return said


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (with_(lora={"rnak": 4}), 'unknown field "spec.lora.rnak"'),
        (with_(lora={"rank": "four"}), "spec.lora.rank: Invalid value"),
        (with_(lora={"rank": 0}), "should be greater than or equal to 1"),
        (with_(training={"maxSteps": 5, "epochs": 1}), "give exactly one of maxSteps and epochs"),
        (with_(training={"batchSize": 2}), "give exactly one of maxSteps and epochs"),
        (with_(training={"maxSteps": 5, "learningRate": -0.1}), "spec.training.learningRate"),
        (with_(training={"maxSteps": 5, "scheduler": "square"}), "spec.training.scheduler: Unsupported value"),
        (with_(model={"uri": "ftp://b/model"}), "must be s3://bucket/path"),
        (with_(dataset={"uri": "train.jsonl"}), "must be s3://bucket/path"),
        (with_(dataset={"uri": "s3://b/d/", "evalUri": "s3://b/d/e"}), "must not lie one below the other"),
        (with_(dataset={"uri": "s3://b/d/t", "evalUri": "s3://b/d/"}), "must not lie one below the other"),
        (with_(dataset={"uri": "s3://b/d", "format": "csv"}), "spec.dataset.format: Unsupported value"),
        (with_(output={"uri": "file:///out"}), "would be lost with it"),
        (with_(dataset=None), "are needed by the built-in trainer"),
        ({"trainer": {"image": "i"}}, "are needed by the built-in trainer"),
        ({"trainer": {"command": ["x"], "env": [{"name": "PERDURE_SPEC", "value": "x"}]}}, "are set by Perdure"),
        ({"trainer": {"command": ["x"], "env": [{"name": "A"}]}}, "give exactly one of value and valueFrom"),
        (with_(resources={"memory": "much"}), "spec.resources.memory"),
        (with_(resources={"ephemeralStorage": "-1Gi"}), "spec.resources.ephemeralStorage"),
        (with_(retry={"maxAttempts": 0}), "spec.retry.maxAttempts"),
        (with_(retry={"maxAttempts": -1}), "should be greater than or equal to 1"),
        (with_(retry={"maxAttempts": 1001}), "should be less than or equal to 1000"),
        (with_(retry={"maxAttempts": 2.5}), "spec.retry.maxAttempts"),
        (with_(retry={"initialIntervalSeconds": -1}), "spec.retry.initialIntervalSeconds"),
        (with_(retry={"initialIntervalSeconds": 86_401}), "spec.retry.initialIntervalSeconds"),
        (with_(retry={"backoffCoefficient": 0.5}), "spec.retry.backoffCoefficient"),
        (with_(retry={"backoffCoefficient": 1e9}), "spec.retry.backoffCoefficient"),
        (with_(retry={"maxIntervalSeconds": -1}), "spec.retry.maxIntervalSeconds"),
        (with_(retry={"maxIntervalSeconds": 10**9}), "spec.retry.maxIntervalSeconds"),
        (with_(retry={"nonRetryableExitCodes": [0]}), "spec.retry.nonRetryableExitCodes[0]"),
        (with_(retry={"nonRetryableExitCodes": [3, 256]}), "spec.retry.nonRetryableExitCodes[1]"),
        (with_(deadlines={"startSeconds": 0}), "spec.deadlines.startSeconds"),
        (with_(deadlines={"startSeconds": -1}), "spec.deadlines.startSeconds"),
        (with_(deadlines={"startSeconds": "1h"}), "spec.deadlines.startSeconds"),
        (with_(deadlines={"progressSeconds": 9}), "should be greater than or equal to 10"),
        (with_(deadlines={"progressSeconds": -60}), "spec.deadlines.progressSeconds"),
        (with_(deadlines={"activeSeconds": 0}), "spec.deadlines.activeSeconds"),
        (with_(deadlines={"activeSeconds": 10**12}), "spec.deadlines.activeSeconds"),
        (with_(resources={"nodes": 0}), "spec.resources.nodes"),
        (with_(resources={"nodes": 65}), "spec.resources.nodes"),
        (with_(resources={"nodes": 2, "minNodes": 3}), "minNodes must not be more than nodes"),
        (with_(resources={"minNodes": 2}), "minNodes must not be more than nodes"),
        (with_(resources={"nodes": 2, "minNodes": 0}), "spec.resources.minNodes"),
        (with_(resources={"nodes": 2, "regrow": True}), "regrow needs a minNodes below nodes"),
        (with_(resources={"nodes": 2, "minNodes": 2, "regrow": True}), "regrow needs a minNodes below nodes"),
        (with_(resources={"alternatives": [{}]}), "an alternative must differ in something"),
        (with_(resources={"alternatives": [{"nodes": 1}]}), 'unknown field "spec.resources.alternatives[0].nodes"'),
        (with_(resources={"alternatives": [{"gpusPerNode": -1}]}), "spec.resources.alternatives[0].gpusPerNode"),
        (with_(resources={"alternatives": [{"cpu": 1}] * 9}), "spec.resources.alternatives"),
        (with_(suspend="yes"), "spec.suspend"),
        (with_(checkpoint={"keep": 1}), "spec.checkpoint.keep"),
        (with_(ttlSecondsAfterFinished=-1), "spec.ttlSecondsAfterFinished"),
        (with_(priorityClassName="no-such-class"), 'unknown field "spec.priorityClassName"'),
        (with_(trainer={"priorityClassName": "no-such-class"}), 'unknown field "spec.trainer.priorityClassName"'),
        (with_(priority=1001), "spec.priority: Invalid value"),
        (with_(priority=-1001), "spec.priority: Invalid value"),
        (with_(priority="high"), "spec.priority: Invalid value"),
        (with_(priority=0.5), "spec.priority: Invalid value"),
        (with_(deletionPolicy="DeleteEverything"), "spec.deletionPolicy: Unsupported value"),
    ],
)
def test_a_mistake_is_refused_with_a_sentence(api_server: ApiServer, spec: Document, says: str) -> None:
    said = refusal(api_server, "create", "-f", "-", "--dry-run=server", document=training_job(spec))

    assert says in said


@pytest.mark.parametrize(
    "spec",
    [
        GOOD,
        with_(dataset={"uri": "s3://b/train/", "evalUri": "s3://b/train-eval/", "records": "messages"}),
        {"trainer": {"image": "i", "command": ["true"]}},
        with_(model={"uri": "file:///opt/model"}, training={"epochs": 0.5}),
        with_(resources={"cpu": 2, "memory": "16Gi", "gpusPerNode": 1, "ephemeralStorage": "50Gi"}),
        with_(resources={"nodes": 2, "minNodes": 2, "alternatives": [{"nodeSelector": {}}, {"gpusPerNode": 0}]}),
        with_(resources={"nodes": 2, "minNodes": 1, "regrow": True}),
        with_(resources={"nodes": 2, "regrow": False}),
        with_(retry={"maxAttempts": 1, "initialIntervalSeconds": 0, "maxIntervalSeconds": 0}),
        with_(deadlines={"startSeconds": 1, "progressSeconds": 10, "activeSeconds": 1}),
        with_(trainer={"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}),
    ],
)
def test_a_good_spec_is_taken(api_server: ApiServer, spec: Document) -> None:
    said = api_server.kubectl("create", "-f", "-", "--dry-run=server", document=training_job(spec))

    assert "created" in said


def is_readable(uri: str) -> bool:
    try:
        parse_uri(uri)
    except UriError:
        return False
    return True


@pytest.mark.parametrize(
    "uri",
    [
        "s3://b/model", "gs://b_1/a/b/", "az://$web/m", "s3://my.bucket/a b/ü[1]%23+~.gguf", "file:///opt/model",
        "s3://b", "s3://b/", "s3://b//", "s3://b//x", "s3://b/x//", "s3://b/x//y", "s3:///x", "s3://?a/b", "s3://b/#x",
        "s3://b/data#1", "s3://b/data?v=1", "s3://[b/x", "s3://b]/x", "s3://-b/x", "s3://b:80/x", "s3://u@b/x",
        "s3://b/x/../y", "s3://b/.", "s3://b/..", "s3://b/.x/..y", "s3://b/x\ny", "s3://b/x\t", "S3://b/x", "b/x",
        "s3:b/x", "file://x", "file:///", "file:////x", "file:///x/../y", " s3://b/x",
    ],
)  # fmt: skip
def test_a_uri_is_taken_exactly_when_it_can_be_read(api_server: ApiServer, uri: str) -> None:
    for field in ("model", "dataset", "output"):
        spec = with_(**{field: {"uri": uri}})
        code, said = api_server.ask("create", "-f", "-", "--dry-run=server", document=training_job(spec))
        expected = is_readable(uri) and uri != "file:///" and not (field == "output" and uri.startswith("file:"))
        assert (code == 0) is expected, said
        assert expected or "must be s3://bucket/path" in said


@pytest.mark.parametrize("length", [63, 200, 253])
def test_a_name_may_be_as_long_as_kubernetes_lets_it(api_server: ApiServer, length: int) -> None:
    document = training_job(GOOD, "a" * length)

    assert "created" in api_server.kubectl("create", "-f", "-", "--dry-run=server", document=document)


@pytest.fixture
def stored(api_server: ApiServer) -> Document:
    api_server.kubectl("delete", "trainingjob", "job", "--ignore-not-found")
    api_server.kubectl("create", "-f", "-", document=training_job(with_(lora={"rank": 4})))
    document: Document = json.loads(api_server.kubectl("get", "trainingjob", "job", "-o", "json"))
    return document


@pytest.mark.parametrize(
    ("patch", "field"),
    [
        ({"lora": {"rank": 8}}, "spec.lora"),
        ({"lora": None}, "spec.lora"),
        ({"resources": {"gpusPerNode": 1}}, "spec.resources"),
        ({"training": {"maxSteps": 11}}, "spec.training"),
        ({"dataset": {"uri": "s3://b/other"}}, "spec.dataset"),
    ],
)
@pytest.mark.usefixtures("stored")
def test_a_run_is_a_fact(api_server: ApiServer, patch: Document, field: str) -> None:
    said = refusal(api_server, "patch", "trainingjob", "job", "--type=merge", "-p", json.dumps({"spec": patch}))

    assert f"{field} cannot change" in said


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize("change", [{"ttlSecondsAfterFinished": 60}, {"deletionPolicy": "DeleteCheckpoints"}], ids=str)
def test_what_is_decided_late_may_change(api_server: ApiServer, change: Document) -> None:
    patch = json.dumps({"spec": change})

    assert "patched" in api_server.kubectl("patch", "trainingjob", "job", "--type=merge", "-p", patch)


def test_a_new_object_reads_as_in_progress_before_anyone_has_seen_it(stored: Document) -> None:
    conditions = {each["type"]: each["status"] for each in stored["status"]["conditions"]}

    assert conditions == {"Reconciling": "True"}
    assert stored["status"]["phase"] == "Pending"


def finished(status: str) -> Document:
    when = "2026-01-01T00:00:00Z"
    each = {"type": "Succeeded", "status": status, "reason": "R", "message": "", "lastTransitionTime": when}
    return {"status": {"phase": "Succeeded" if status == "True" else "Failed", "conditions": [each]}}


@pytest.mark.parametrize(
    "change",
    [
        finished("False"),
        {"status": {"phase": "Running"}},
        {"status": {"conditions": []}},
        {"status": {"conditions": None, "phase": None}},
        {"status": None},
    ],
    ids=["another end", "another phase", "no conditions", "neither", "wiped"],
)
@pytest.mark.usefixtures("stored")
def test_nobody_can_change_how_a_job_ended(api_server: ApiServer, change: Document) -> None:
    patch = ["patch", "trainingjob", "job", "--subresource=status", "--type=merge", "-p"]
    api_server.kubectl(*patch, json.dumps(finished("True")))

    said = refusal(api_server, *patch, json.dumps(change))

    assert names.FINAL_STATUS_MESSAGE in said


def test_kubectl_explain_reads_like_documentation(api_server: ApiServer) -> None:
    said = api_server.kubectl("explain", "trainingjob.spec.lora")

    assert "Hu et al. 2021" in said
    assert "Rank of the update matrices." in said
