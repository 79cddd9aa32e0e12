"""Whatever is wrong, the object says so in one sentence, and nothing is lost.

All jobs of this file are created at once and go their ways together; each test looks at one.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from perdure_api.uri import parse_uri
from perdure_cli.story import ADVICE
from perdure_data.stores import Stores
from tests.cluster.conftest import BUCKET, Document, Jobs, Kubectl, condition, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(420)]

SHELL = ("sh", "-c")
ONCE = {"retry": {"maxAttempts": 1}}
SOON = {"deadlines": {"startSeconds": 12}}
NAMES = [f"n{'x' * (length - 1)}" for length in (63, 200, 253)]


def killed_by(number: int) -> str:
    """A shell that passes on how its child ended: the kernel spares process 1 its own signals."""
    return f"python3 -c 'import os; os.kill(os.getpid(), {number})'; exit $?"


def own_cases(jobs: Jobs) -> dict[str, Document]:
    own = jobs.own
    return {
        "exit-1": own(*SHELL, "exit 1", **ONCE),
        "exit-64": own(*SHELL, "exit 64"),
        "exit-137": own(*SHELL, killed_by(9), **ONCE),
        "exit-139": own(*SHELL, killed_by(11), **ONCE),
        "garbage": own(*SHELL, "head -c 3000 /dev/urandom > /dev/termination-log; exit 1", **ONCE),
        "no-such-command": own("/no/such/command"),
        "no-such-image": own("true", trainer={"image": "198.18.128.1:5000/no-such:1"}, **SOON),
        "too-many-gpus": own("true", resources={"gpusPerNode": 64}, **SOON),
        **{name: own("true") for name in NAMES},
    }


def built_in_cases(jobs: Jobs, inputs: Document, stores: Stores) -> dict[str, Document]:
    def with_data(name: str, content: bytes) -> Document:
        uri = f"{BUCKET}/bad/{name}.jsonl"
        stores.put(parse_uri(uri), content)
        return {**inputs, "dataset": {"uri": uri}}

    def with_model(name: str, **files: bytes) -> Document:
        for file, content in files.items():
            stores.put(parse_uri(f"{BUCKET}/bad-models/{name}/{file.replace('__', '.')}"), content)
        return {**inputs, "model": {"uri": f"{BUCKET}/bad-models/{name}"}}

    good = json.dumps({"text": "In the beginning was the word."}).encode()
    return {
        "missing-bucket": {**inputs, "dataset": {"uri": "s3://no-such-bucket/train.jsonl"}},
        "missing-key": {**inputs, "dataset": {"uri": f"{BUCKET}/no-such.jsonl"}},
        "missing-model-bucket": {**inputs, "model": {"uri": "s3://no-such-bucket/model"}},
        "missing-model": {**inputs, "model": {"uri": f"{BUCKET}/no-such-model"}},
        "missing-output-bucket": {**inputs, "output": {"uri": "s3://no-such-bucket/out"}},
        "empty": with_data("empty", b""),
        "binary": with_data("binary", bytes(range(256)) * 40),
        "broken-line": with_data("broken-line", b"\n".join([good] * 6 + [b'{"text": "cut o'] + [good] * 3)),
        "one-token": with_data("one-token", b'{"text": "' + b"a" * 4000 + b'"}\n'),
        "no-weights": with_model("no-weights", config__json=b'{"architectures": ["LlamaForCausalLM"]}'),
        "wrong-architecture": with_model(
            "wrong", config__json=b'{"architectures": ["ResNetForImageClassification"]}', model__safetensors=b"0" * 64
        ),
        # The plain image has no entry point: without a command it ends at once with 0 and leaves no result.
        "no-result": {**inputs, "trainer": {"image": jobs.base_image, "args": ["true"]}},
    }


@pytest.fixture(scope="module")
def bad(jobs: Jobs, tiny_inputs: Document, stores: Stores) -> Jobs:
    for name, spec in {**own_cases(jobs), **built_in_cases(jobs, tiny_inputs, stores)}.items():
        jobs.create(name, spec)
    return jobs


@pytest.mark.parametrize(
    ("name", "reason", "says"),
    [
        ("exit-1", "MaxAttemptsReached", "exit code 1"),
        ("exit-64", "PermanentError", "exit code 64"),
        ("exit-137", "MaxAttemptsReached", "SIGKILL"),
        ("exit-139", "MaxAttemptsReached", "SIGSEGV"),
        ("garbage", "MaxAttemptsReached", "that is no text"),
        ("no-such-command", "CannotStart", "/no/such/command"),
        ("no-such-image", "ImagePullFailed", "no-such"),
        ("too-many-gpus", "NoCapacity", "Insufficient nvidia.com/gpu"),
        ("missing-bucket", "DatasetNotFound", "there is no bucket no-such-bucket"),
        ("missing-key", "DatasetNotFound", "no-such.jsonl"),
        ("missing-model-bucket", "ModelNotFound", "there is no bucket no-such-bucket"),
        ("missing-model", "ModelNotFound", "no-such-model: no files are there"),
        ("missing-output-bucket", "OutputNotFound", "there is no bucket no-such-bucket"),
        ("empty", "DatasetEmpty", "empty.jsonl"),
        ("binary", "DatasetBroken", "binary.jsonl"),
        ("broken-line", "DatasetBroken", "line 7"),
        ("one-token", "DatasetBroken", "one-token.jsonl"),
        ("no-weights", "ModelBroken", "*.safetensors"),
        ("wrong-architecture", "ModelBroken", "ResNetForImageClassification"),
        ("no-result", "ProtocolError", "result.json; the trainer ended with 0 but wrote none"),
    ],
)
def test_it_is_told_in_a_condition_an_event_and_the_story(bad: Jobs, name: str, reason: str, says: str) -> None:
    job = bad.finished(name)

    succeeded = condition(job, "Succeeded")
    assert (succeeded["status"], succeeded["reason"]) == ("False", reason), job["status"]
    assert says in succeeded["message"]
    assert condition(job, "Stalled")["status"] == "True"
    assert (job["status"]["phase"], job["status"]["reason"]) == ("Failed", reason)
    assert reason in bad.warnings(name)
    tells(bad.describe(name), reason, says)


def tells(story: str, reason: str, says: str) -> None:
    """Asserts that the story of a failed job says why, and what a person can do."""
    assert f"failed for good: {reason}" in story
    assert says in story
    assert ADVICE[reason] in story


@pytest.mark.parametrize("name", NAMES, ids=lambda name: str(len(name)))
def test_a_long_name_works_like_a_short_one(bad: Jobs, name: str) -> None:
    job = bad.finished(name)

    assert condition(job, "Succeeded")["status"] == "True"
    assert len(bad.pods(name)) == 1


def test_a_job_that_failed_leaves_no_pod_that_runs(bad: Jobs) -> None:
    for name in bad.created:
        bad.finished(name)

    live = [
        pod["metadata"]["name"] for pod in bad.kubectl.items("pods") if pod["status"]["phase"] in {"Pending", "Running"}
    ]

    assert live == []


def test_a_broken_result_of_the_built_in_trainer_is_a_protocol_error(
    jobs: Jobs, tiny_inputs: Document, stores: Stores
) -> None:
    jobs.create("broken-result", {**tiny_inputs, "trainer": {"image": jobs.base_image, "args": ["sleep", "6"]}})
    uid = jobs.get("broken-result")["metadata"]["uid"]
    result = f"{BUCKET}/out/runs/{uid}/attempts/1/result.json"
    stores.put(parse_uri(result), b"\x00 not json")

    job = jobs.finished("broken-result")

    assert job["status"]["reason"] == "ProtocolError"
    assert job["status"]["message"].startswith(f"{result} is no result document: Invalid JSON")


@pytest.mark.parametrize(
    ("name", "credentials", "says"),
    [
        (
            "wrong",
            {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing"},
            "access denied, the store does not know the access key; correct the credentials",
        ),
        (
            "none",
            {},
            "no credentials for s3:// were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ),
    ],
    ids=["wrong", "none"],
)
def test_a_pod_with_wrong_or_no_credentials_says_so(
    jobs: Jobs, system: Kubectl, tiny_inputs: Document, name: str, credentials: dict[str, str], says: str
) -> None:
    kubectl = Kubectl(system.kubeconfig, f"{jobs.kubectl.namespace}-{name}")
    kubectl("create", "namespace", kubectl.namespace)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "perdure-object-store"},
        "stringData": credentials,
    }
    kubectl("create", "-f", "-", document=secret)
    there = Jobs(kubectl, jobs.base_image)
    there.create("train", {**tiny_inputs, **ONCE})

    job = there.finished("train")

    assert (job["status"]["phase"], job["status"]["reason"]) == ("Failed", "PermanentError")
    assert says in job["status"]["message"]
    assert "PermanentError" in there.warnings("train")
    tells(there.describe("train"), "PermanentError", says)
    kubectl("delete", "namespace", kubectl.namespace, "--wait=false")


def test_a_quota_that_forbids_the_pod_is_told_and_a_larger_one_lets_it_go_on(jobs: Jobs) -> None:
    quota: Document = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "small"},
        "spec": {"hard": {"requests.nvidia.com/gpu": "1"}},
    }
    jobs.kubectl("create", "-f", "-", document=quota)
    jobs.create("quota", jobs.own("true", resources={"gpusPerNode": 2}))

    refused = jobs.until("quota", lambda job: job["status"].get("reason") == "JobRefused")
    jobs.kubectl("delete", "resourcequota", "small")
    job = jobs.finished("quota")

    assert "exceeded quota" in refused["status"]["message"]
    assert job["status"]["phase"] == "Succeeded"


def admission_policy(namespace: str) -> list[Document]:
    name = f"no-jobs-{namespace}"
    policy: Document = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "resourceRules": [
                    {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}
                ]
            },
            "validations": [{"expression": "false", "message": "no Jobs on Sundays"}],
        },
    }
    binding: Document = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {
            "policyName": name,
            "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}},
        },
    }
    return [policy, binding]


def webhook(namespace: str, service: str, authority: bytes = b"") -> Document:
    """Every Job of a namespace must pass a Service."""
    hook: dict[str, Any] = {
        "name": f"{service}.perdure.test",
        "clientConfig": {
            "service": {"name": service, "namespace": namespace, "path": "/"},
            "caBundle": base64.b64encode(authority).decode(),
        },
        "rules": [{"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 2,
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": f"{service}-{namespace}"},
        "webhooks": [hook],
    }


def webhook_that_is_away(namespace: str) -> list[Document]:
    return [webhook(namespace, "nobody")]


REFUSES = """
import json, ssl
from http.server import BaseHTTPRequestHandler, HTTPServer
class Strict(BaseHTTPRequestHandler):
    def do_POST(self):
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = {"uid": review["request"]["uid"], "allowed": False, "status": {"message": "no Jobs on Mondays"}}
        body = json.dumps({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": answer}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
server = HTTPServer(("", 8443), Strict)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/tls/tls.crt", "/tls/tls.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


def webhook_that_refuses(namespace: str, image: str) -> list[Document]:
    key, certificate = self_signed(f"strict.{namespace}.svc")
    labels = {"app": "strict"}
    container = {
        "name": "strict",
        "image": image,
        "command": ["python3", "-c", REFUSES],
        "volumeMounts": [{"name": "tls", "mountPath": "/tls"}],
        "readinessProbe": {"tcpSocket": {"port": 8443}, "periodSeconds": 1},
    }
    volume = {"name": "tls", "secret": {"secretName": "strict"}}
    spec = {"containers": [container], "volumes": [volume], "terminationGracePeriodSeconds": 0}
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "strict"},
            "stringData": {"tls.crt": certificate, "tls.key": key},
        },
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "strict", "labels": labels}, "spec": spec},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "strict"},
            "spec": {"selector": labels, "ports": [{"port": 443, "targetPort": 8443}]},
        },
        webhook(namespace, "strict", certificate.encode()),
    ]


def self_signed(name: str) -> tuple[str, str]:
    """A key and its certificate, both as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private.decode(), certificate.public_bytes(Encoding.PEM).decode()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda jobs: admission_policy(jobs.kubectl.namespace), "no Jobs on Sundays"),
        (lambda jobs: webhook_that_refuses(jobs.kubectl.namespace, jobs.base_image), "no Jobs on Mondays"),
        (lambda jobs: webhook_that_is_away(jobs.kubectl.namespace), "nobody.perdure.test"),
    ],
    ids=["policy", "webhook", "absent-webhook"],
)
def test_admission_that_refuses_the_job_is_told_and_its_removal_lets_it_go_on(
    jobs: Jobs, request: pytest.FixtureRequest, make: Callable[[Jobs], list[Document]], says: str
) -> None:
    name = str(request.node.callspec.id)
    objects = make(jobs)
    for document in objects:
        jobs.kubectl("create", "-f", "-", document=document)
    try:
        # It takes a moment to be in force: until then Jobs get through, or are refused for another reason.
        probe = {
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"generateName": "probe-"},
            "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "c"}]}}},
        }  # fmt: skip
        refused = lambda: says in jobs.kubectl.run("create", "-f", "-", "--dry-run=server", document=probe).stderr  # noqa: E731
        wait_until(refused, 60, lambda: "admission never refused a Job")
        jobs.create(name, jobs.own("true"))
        told = jobs.until(name, lambda job: job["status"].get("reason") == "JobRefused")
    finally:
        for document in reversed(objects):
            jobs.kubectl("delete", document["kind"], document["metadata"]["name"])

    job = jobs.finished(name)

    assert says in told["status"]["message"]
    assert job["status"]["phase"] == "Succeeded"
