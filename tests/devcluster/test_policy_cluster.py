"""NetworkPolicies on the nodes of the cluster, between real pods."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from perdure_devcluster import plan
from perdure_devcluster.api import Json
from perdure_devcluster.testing import RunningCluster, pod_manifest
from perdure_devcluster.waiting import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

SERVE = ("python3", "-m", "http.server", "8080")
DENY: Json = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
DNS: Json = {
    # CoreDNS is no pod here but a process of the machine's, behind a Service.
    "to": [{"ipBlock": {"cidr": f"{plan.HOST_ADDRESS}/32"}}],
    "ports": [{"port": plan.DNS_PORT, "protocol": protocol} for protocol in ("UDP", "TCP")],
}
SECONDS = 30


def connect(host: str, port: int) -> str:
    """A program that says whether it was let through, or what became of it."""
    return f"""
import socket
try:
    socket.create_connection(({host!r}, {port}), 3).close()
    print("open")
except OSError as error:
    print(type(error).__name__)
"""


class Pods:
    """Pods of a namespace, and policies about them."""

    def __init__(self, running: RunningCluster, namespace: str, image: str) -> None:
        self.running = running
        self.namespace = namespace
        self.image = image

    def start(self, name: str, node: str, *command: str, phase: str = "Running") -> None:
        self.running.create(pod_manifest(self.namespace, name, self.image, *(command or SERVE), nodeName=node))
        self.running.wait_for_phase(self.namespace, name, phase, timeout_seconds=60)

    def address(self, name: str) -> str:
        return str(self.running.pod(self.namespace, name)["status"]["podIP"])

    def reach(self, name: str, host: str, port: int = 8080) -> str:
        """What a pod is told when it connects."""
        command = ("exec", "-n", self.namespace, name, "--", "python3", "-c", connect(host, port))
        return self.running.kubectl(*command).strip()

    def apply(self, name: str, spec: Json) -> None:
        path = f"/apis/networking.k8s.io/v1/namespaces/{self.namespace}/networkpolicies"
        metadata = {"name": name, "namespace": self.namespace}
        manifest = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}
        self.running.api.apply(f"{path}/{name}", manifest)

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """A policy is on the nodes soon after it was made, not at once."""
        wait_for(lambda: holds() or None, what=what, timeout_seconds=SECONDS)


@pytest.fixture
def pods(running: RunningCluster, namespace: str, base_image: str) -> Pods:
    """A server and a client, on two nodes."""
    made = Pods(running, namespace, base_image)
    made.start("web", "n1")
    made.start("client", "n2")
    return made


def test_what_is_denied_is_blocked_across_nodes_and_what_is_allowed_passes(pods: Pods) -> None:
    web = pods.address("web")
    pods.until(lambda: pods.reach("client", web) == "open", "the server to listen")

    pods.apply("deny", DENY)
    pods.until(lambda: pods.reach("client", web) == "TimeoutError", "the client to be blocked")
    assert pods.reach("client", plan.HOST_ADDRESS, plan.API_PORT) == "TimeoutError"
    assert pods.reach("web", "127.0.0.1") == "open", "kubectl exec works, and a pod reaches itself"

    pods.apply("deny", {**DENY, "podSelector": {"matchLabels": {"app": "client"}}, "egress": [DNS]})
    pods.until(
        lambda: pods.reach("client", plan.DNS_SERVICE_ADDRESS, 53) == "open", "the name server to be reached"
    )  # fmt: skip
    assert pods.reach("client", web) == "TimeoutError"
    assert pods.reach("web", pods.address("client")) == "TimeoutError"
    assert pods.reach("web", plan.HOST_ADDRESS, plan.API_PORT) == "open", "the policy is not about it any more"

    pods.apply("allow", {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"podSelector": {}}]}]})
    pods.until(lambda: pods.reach("client", web) == "open", "policies to add up")


def test_a_pod_is_isolated_from_its_first_packet_on_and_soon_gets_what_is_allowed(pods: Pods) -> None:
    """Two tries of each pod: what is denied never passes, what is allowed does though it is asked for at once."""
    pods.apply("deny", {**DENY, "egress": [DNS]})
    pods.until(lambda: pods.reach("client", pods.address("web")) == "TimeoutError", "the policy to be there")
    denied, allowed = (plan.HOST_ADDRESS, plan.API_PORT), (plan.DNS_SERVICE_ADDRESS, 53)
    for number in range(3):
        name = f"new-{number}"
        program = connect(*denied) + connect(*allowed)
        pods.start(name, "n1", "python3", "-c", program, phase="Succeeded")
        assert pods.running.kubectl("logs", "-n", pods.namespace, name).split() == ["TimeoutError", "open"]


def test_what_was_blocked_stays_so_while_nobody_keeps_the_rules(pods: Pods) -> None:
    """What changes meanwhile is caught up with afterwards."""
    pods.apply("deny", DENY)
    web = pods.address("web")
    pods.until(lambda: pods.reach("client", web) == "TimeoutError", "the client to be blocked")

    for node in ("n1", "n2"):
        pods.running.devcluster("kill-component", f"{node}/network-policies")
    try:
        assert pods.reach("client", web) == "TimeoutError"
        pods.apply("deny", {"podSelector": {"matchLabels": {"app": "nobody"}}})
        assert pods.reach("client", web) == "TimeoutError"
    finally:
        for node in ("n1", "n2"):
            pods.running.devcluster("start-component", f"{node}/network-policies")
    pods.until(lambda: pods.reach("client", web) == "open", "what has changed meanwhile to be caught up with")
