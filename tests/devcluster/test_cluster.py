"""What pods find in the cluster."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from perdure_devcluster.errors import Unreachable
from perdure_devcluster.testing import RunningCluster, job_manifest, pod_manifest
from perdure_devcluster.waiting import answers_ok, wait_for

pytestmark = pytest.mark.cluster

SERVE = ("python3", "-m", "http.server", "8080")


def test_a_job_completes(running: RunningCluster, namespace: str, base_image: str) -> None:
    running.create(job_manifest(namespace, "hello", base_image, "python3", "-c", "print('hello')"))
    running.wait_for_job(namespace, "hello")
    assert running.kubectl("logs", "-n", namespace, "job/hello") == "hello\n"


def serve(
    running: RunningCluster,
    namespace: str,
    image: str,
    node: str,
    script: str | None = None,
    port: int = 80,
    **env: Any,
) -> None:
    command = SERVE if script is None else ("python3", "-c", script)
    running.create(pod_manifest(namespace, "web", image, *command, nodeName=node, container=env))
    spec = {"selector": {"app": "web"}, "ports": [{"port": port, "targetPort": 8080}]}
    metadata = {"name": "web", "namespace": namespace}
    running.create({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
    running.wait_for_phase(namespace, "web", "Running")


@pytest.mark.parametrize("node", ["n1", "n2"])
def test_a_pod_reaches_a_service_by_name_from_any_node(
    running: RunningCluster, namespace: str, base_image: str, node: str
) -> None:
    serve(running, namespace, base_image, "n1")
    # The server may not listen yet, and the rules may not be there yet: try again, for a while.
    script = f"""
import time, urllib.request
deadline = time.monotonic() + 20
for name in ("web", "web.{namespace}.svc.cluster.local"):
    while True:
        try:
            print(name, urllib.request.urlopen(f"http://{{name}}/", timeout=2).status)
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
"""
    manifest = job_manifest(namespace, "client", base_image, "python3", "-c", script)
    manifest["spec"]["template"]["spec"]["nodeName"] = node
    running.create(manifest)
    running.wait_for_job(namespace, "client")
    expected = f"web 200\nweb.{namespace}.svc.cluster.local 200\n"
    assert running.kubectl("logs", "-n", namespace, "job/client") == expected


def test_the_machine_reaches_pods_and_services(running: RunningCluster, namespace: str, base_image: str) -> None:
    serve(running, namespace, base_image, "n2")
    service = running.api.get(f"/api/v1/namespaces/{namespace}/services/web")
    addresses = [f"{running.pod(namespace, 'web')['status']['podIP']}:8080", f"{service['spec']['clusterIP']}:80"]

    for address in addresses:
        host, port = address.split(":")
        wait_for(partial(answers_ok, host, int(port), "/"), what=address, timeout_seconds=20)


def test_a_name_of_the_outside_does_not_resolve(running: RunningCluster, namespace: str, base_image: str) -> None:
    script = "import socket\ntry: socket.gethostbyname('outside.test')\nexcept OSError: print('unknown')"
    running.create(job_manifest(namespace, "ask", base_image, "python3", "-c", script))
    running.wait_for_job(namespace, "ask")
    assert running.kubectl("logs", "-n", namespace, "job/ask") == "unknown\n"


def test_exec_runs_in_the_pod(running: RunningCluster, namespace: str, base_image: str) -> None:
    running.create(pod_manifest(namespace, "web", base_image, *SERVE))
    running.wait_for_phase(namespace, "web", "Running")
    assert running.kubectl("exec", "-n", namespace, "web", "--", "hostname") == "web\n"


def test_a_kubelet_reads_the_secrets_of_its_own_pods_only(
    running: RunningCluster, namespace: str, base_image: str
) -> None:
    """The Node authorizer."""
    secrets = f"/api/v1/namespaces/{namespace}/secrets"
    for name in ("of-n1", "of-nobody"):
        running.api.create(secrets, {"metadata": {"name": name}})
    volume = {"name": "secret", "secret": {"secretName": "of-n1"}}
    running.create(pod_manifest(namespace, "reader", base_image, "sleep", "60", nodeName="n1", volumes=[volume]))
    running.wait_for_phase(namespace, "reader", "Running")
    kubelets = {name: running.as_user(f"kubelet-{name}") for name in ("n1", "n2")}

    assert kubelets["n1"].get(f"{secrets}/of-n1")["metadata"]["name"] == "of-n1"
    for node, path in (("n1", f"{secrets}/of-nobody"), ("n2", f"{secrets}/of-n1"), ("n1", secrets)):
        with pytest.raises(Unreachable, match="is forbidden"):
            kubelets[node].get(path)


def test_an_api_of_ones_own_is_served_through_the_api_server(
    running: RunningCluster, namespace: str, base_image: str
) -> None:
    """The aggregation layer, as an adapter for metrics needs it."""
    certificate = {"name": "CERTIFICATE", "value": self_signed()}
    serve(running, namespace, base_image, "n1", SERVE_AN_API, port=443, env=[certificate])
    group = f"{namespace}.example.com"
    api_service = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"v1.{group}"},
        "spec": {
            "group": group,
            "version": "v1",
            "service": {"namespace": namespace, "name": "web"},
            "insecureSkipTLSVerify": True,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
        },
    }
    services = "/apis/apiregistration.k8s.io/v1/apiservices"
    running.api.create(services, api_service)
    try:
        wait_for(lambda: is_available(running, f"{services}/v1.{group}"), what="the API", timeout_seconds=40)
        assert running.api.get(f"/apis/{group}/v1/any") == {"path": f"/apis/{group}/v1/any"}
    finally:
        running.api.delete(f"{services}/v1.{group}")


def is_available(running: RunningCluster, api_service: str) -> bool:
    conditions = running.api.get(api_service).get("status", {}).get("conditions", [])
    return any(each["type"] == "Available" and each["status"] == "True" for each in conditions)


SERVE_AN_API = """
import http.server, json, os, ssl

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"path": self.path}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

open("/tmp/pem", "w").write(os.environ["CERTIFICATE"])
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/tmp/pem")
server = http.server.ThreadingHTTPServer(("", 8080), Answer)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


def self_signed() -> str:
    """A key and a certificate that nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "probe")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return (private + certificate.public_bytes(Encoding.PEM)).decode()


def test_a_projected_token_opens_only_its_own_audience(
    running: RunningCluster, namespace: str, base_image: str
) -> None:
    token_source = {"serviceAccountToken": {"audience": "perdure-progress", "path": "token"}}
    manifest = pod_manifest(
        namespace,
        "signed",
        base_image,
        *("cat", "/token/token"),
        container={"volumeMounts": [{"name": "token", "mountPath": "/token"}]},
        volumes=[{"name": "token", "projected": {"sources": [token_source]}}],
        automountServiceAccountToken=False,
    )
    running.create(manifest)
    running.wait_for_phase(namespace, "signed", "Succeeded")
    token = running.kubectl("logs", "-n", namespace, "signed")
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert claims["aud"] == ["perdure-progress"]
    assert claims["kubernetes.io"]["pod"]["name"] == "signed"

    def review(audience: str) -> dict[str, object]:
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]},
        }
        status: dict[str, object] = running.api.create("/apis/authentication.k8s.io/v1/tokenreviews", body)["status"]
        return status

    assert review("perdure-progress").get("authenticated") is True
    assert not review("https://kubernetes.default.svc.cluster.local").get("authenticated")


def test_a_claim_gets_a_volume_that_an_ordinary_user_can_write(
    running: RunningCluster, namespace: str, base_image: str
) -> None:
    claims = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims"
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    running.api.create(claims, {"metadata": {"name": "data"}, "spec": spec})
    for name, command in (("writer", "echo kept > /data/file"), ("reader", "cat /data/file")):
        running.create(
            pod_manifest(
                namespace,
                name,
                base_image,
                *("sh", "-c", command),
                container={"volumeMounts": [{"name": "data", "mountPath": "/data"}]},
                volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
                securityContext={"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000},
            )
        )
        running.wait_for_phase(namespace, name, "Succeeded")
    assert running.kubectl("logs", "-n", namespace, "reader") == "kept\n"

    volume = running.api.get(f"{claims}/data")["spec"]["volumeName"]
    for name in ("writer", "reader"):
        running.api.delete(f"/api/v1/namespaces/{namespace}/pods/{name}")
    running.api.delete(f"{claims}/data")
    gone = f"/api/v1/persistentvolumes/{volume}"
    wait_for(lambda: running.api.find(gone) is None, what=f"{volume} to be deleted", timeout_seconds=30)
    assert not list(running.cluster.paths.state.glob(f"nodes/*/volumes/{volume}"))


def test_gpus_are_counted(running: RunningCluster, namespace: str, base_image: str) -> None:
    """More than any node has stays unscheduled; what a node has runs."""
    offered = running.cluster.settings.gpus_per_node
    for name, count in (("fits", offered), ("too-many", offered + 1)):
        resources = {"limits": {"nvidia.com/gpu": count}}
        running.create(pod_manifest(namespace, name, base_image, "true", container={"resources": resources}))
    running.wait_for_phase(namespace, "fits", "Succeeded")
    conditions = running.pod(namespace, "too-many")["status"]["conditions"]
    assert "Insufficient nvidia.com/gpu" in json.dumps(conditions)


def test_an_image_that_has_changed_is_what_the_next_pod_runs(
    running: RunningCluster, namespace: str, buildah_image: Callable[[str], str]
) -> None:
    for text in ("first", "second"):
        image = running.devcluster("load-image", buildah_image(text)).strip()
        running.create(
            pod_manifest(namespace, text, image, "cat", "/text", container={"imagePullPolicy": "IfNotPresent"})
        )
        running.wait_for_phase(namespace, text, "Succeeded")
        assert running.kubectl("logs", "-n", namespace, text) == text


def test_pod_security_is_enforced(running: RunningCluster, namespace: str, base_image: str) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    running.api.apply(
        f"/api/v1/namespaces/{namespace}",
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}},
    )
    with pytest.raises(Unreachable, match="violates PodSecurity"):
        running.create(pod_manifest(namespace, "root", base_image, "true"))
