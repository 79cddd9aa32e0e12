"""The objects that make an empty API server a cluster: DNS, storage, fake GPUs."""

from __future__ import annotations

from perdure_devcluster import plan
from perdure_devcluster.api import Api, Json
from perdure_devcluster.plan import NodePlan

STORAGE_CLASS = "local"
PROVISIONER = "devcluster.perdure.dev/local"
_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_KUBE_SYSTEM = "/api/v1/namespaces/kube-system"


def cluster_objects() -> dict[str, Json]:
    """Every object with its path, in the order in which they are applied."""
    return {
        f"{_RBAC}/clusterroles/perdure-devcluster-coredns": _coredns_role(),
        f"{_RBAC}/clusterrolebindings/perdure-devcluster-coredns": _coredns_binding(),
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


def node_is_ready(manifest: Json) -> bool:
    """Whether a Node's Ready condition is true."""
    conditions = manifest.get("status", {}).get("conditions", [])
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def _coredns_role() -> Json:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "perdure-devcluster-coredns"},
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


def _coredns_binding() -> Json:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "perdure-devcluster-coredns"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "perdure-devcluster-coredns",
        },
        "subjects": [
            {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "User",
                "name": "perdure-devcluster-coredns",
            }
        ],
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
