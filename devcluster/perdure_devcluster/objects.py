"""The objects that make an empty API server a cluster: DNS, storage, fake GPUs."""

from __future__ import annotations

from datetime import datetime

from perdure_devcluster import plan
from perdure_devcluster.api import Api, Json
from perdure_devcluster.plan import NodePlan

STORAGE_CLASS = "local"
PROVISIONER = "devcluster.perdure.dev/local"
_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_KUBE_SYSTEM = "/api/v1/namespaces/kube-system"
_COREDNS = "perdure-devcluster-coredns"
_VOLUMES = "perdure-devcluster-volumes"
_NETWORK_POLICIES = "perdure-devcluster-network-policies"


def cluster_objects() -> dict[str, Json]:
    """Every object with its path, in the order in which they are applied."""
    return {
        f"{_RBAC}/clusterroles/{_COREDNS}": _coredns_role(),
        f"{_RBAC}/clusterrolebindings/{_COREDNS}": _binding(_COREDNS, _COREDNS),
        f"{_RBAC}/clusterroles/{_NETWORK_POLICIES}": _network_policies_role(),
        f"{_RBAC}/clusterrolebindings/{_NETWORK_POLICIES}": _binding(_NETWORK_POLICIES, _NETWORK_POLICIES),
        f"{_RBAC}/clusterrolebindings/{_VOLUMES}": _binding(_VOLUMES, "system:persistent-volume-provisioner"),
        f"{_KUBE_SYSTEM}/services/kube-dns": _dns_service(),
        "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices/kube-dns": _dns_slice(),
        f"/apis/storage.k8s.io/v1/storageclasses/{STORAGE_CLASS}": _storage_class(),
    }


def apply_cluster_objects(api: Api) -> None:
    """Bring the objects to what they should be."""
    for path, manifest in cluster_objects().items():
        api.apply(path, manifest)


def gpu_patch(count: int) -> list[Json]:
    """JSON patch of a node's status: the documented way to advertise an extended resource.

    Allocatable as well as capacity, or the scheduler has to wait for the
    kubelet's next report.
    """
    return [
        {"op": "add", "path": f"/status/{field}/nvidia.com~1gpu", "value": str(count)}
        for field in ("capacity", "allocatable")
    ]


def offer_gpus(api: Api, node: NodePlan, count: int) -> None:
    """Have a node offer GPUs that are not there."""
    api.patch(f"/api/v1/nodes/{node.name}/status", gpu_patch(count))


def node_is_ready(manifest: Json, since: datetime | None = None) -> bool:
    """Whether a Node is Ready by a report not older than ``since``."""
    for condition in manifest.get("status", {}).get("conditions", []):
        if condition["type"] == "Ready" and condition["status"] == "True":
            # The API's times are whole seconds, cut off.
            heartbeat = datetime.fromisoformat(condition["lastHeartbeatTime"])
            return since is None or heartbeat >= since.replace(microsecond=0)
    return False


def _coredns_role() -> Json:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": _COREDNS},
        "rules": [
            {
                "apiGroups": [""],
                "resources": ["services", "pods", "namespaces", "endpoints"],
                "verbs": ["list", "watch"],
            },
            {
                "apiGroups": ["discovery.k8s.io"],
                "resources": ["endpointslices"],
                "verbs": ["list", "watch"],
            },
        ],
    }


def _network_policies_role() -> Json:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": _NETWORK_POLICIES},
        "rules": [
            {"apiGroups": [""], "resources": ["pods", "namespaces"], "verbs": ["list", "watch"]},
            {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["list", "watch"]},
        ],
    }


def _binding(user: str, role: str) -> Json:
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": user},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }


def _dns_service() -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kube-dns",
            "namespace": "kube-system",
            "labels": {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"},
        },
        # No selector: CoreDNS is a process beside the API server, not a pod, so
        # that names resolve while nodes come and go.
        "spec": {
            "clusterIP": plan.DNS_SERVICE_ADDRESS,
            "ports": [
                {
                    "name": f"dns-{protocol.lower()}",
                    "port": 53,
                    "protocol": protocol,
                    "targetPort": plan.DNS_PORT,
                }
                for protocol in ("UDP", "TCP")
            ],
        },
    }


def _dns_slice() -> Json:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kube-dns",
            "namespace": "kube-system",
            "labels": {"kubernetes.io/service-name": "kube-dns"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [plan.HOST_ADDRESS], "conditions": {"ready": True}}],
        "ports": [
            {"name": f"dns-{protocol.lower()}", "port": plan.DNS_PORT, "protocol": protocol}
            for protocol in ("UDP", "TCP")
        ],
    }


def _storage_class() -> Json:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": PROVISIONER,
        # A volume lies on one node's disk, so it waits for the scheduler's choice.
        "volumeBindingMode": "WaitForFirstConsumer",
        "reclaimPolicy": "Delete",
    }
