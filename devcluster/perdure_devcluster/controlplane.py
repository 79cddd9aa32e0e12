"""The control plane: how each of its daemons is started."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from perdure_devcluster import plan
from perdure_devcluster.binaries import Binaries
from perdure_devcluster.credentials import Credentials
from perdure_devcluster.files import write_atomically
from perdure_devcluster.paths import PYTHON, SOURCE, Paths

# In the order in which they are started; stopped in the opposite one.
COMPONENTS = (
    "etcd",
    "registry",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "coredns",
    "volumes",
)

# Runs only while there are nodes for it (see kwok.py).
KWOK = "kwok"

# A dead node is noticed after 8 s and its pods replaced 5 s later, where the
# defaults are 50 s and 300 s: nobody waits that long in a test. The lease must
# not be longer than the grace period, or nodes flap.
NODE_LEASE_SECONDS = 8
NODE_GRACE_SECONDS = 8
TOLERATION_SECONDS = 5

# HorizontalPodAutoscalers down to no replica at all; alpha, so both must know.
FEATURE_GATES = "HPAScaleToZero=true"


@dataclass(frozen=True)
class Component:
    """One daemon of the control plane."""

    name: str
    command: tuple[str | Path, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    # Files that it reads once, at its start.
    inputs: tuple[Path, ...] = ()

    @property
    def configuration(self) -> str:
        """A hash of what it is started with."""
        words = [*map(str, self.command), *map("=".join, sorted(self.environment.items()))]
        words += [file.read_text() for file in self.inputs]
        return hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]

    @property
    def needs_api(self) -> bool:
        """Whether it ends at its start when the API server does not let it in yet."""
        return self.name not in ("etcd", "registry", "kube-apiserver")


def components(paths: Paths, binaries: Binaries, credentials: Credentials) -> list[Component]:
    """Every daemon, in the order of COMPONENTS; writes the files that they read."""
    write_atomically(paths.registry_config, registry_config(paths.registry))
    dns_file = paths.state / "Corefile"
    write_atomically(dns_file, corefile(credentials.kubeconfig("coredns")))
    return [
        Component("etcd", _etcd(paths, binaries)),
        Component("registry", ("docker-registry", "serve", paths.registry_config), inputs=(paths.registry_config,)),
        Component(
            "kube-apiserver",
            _api_server(binaries, credentials),
            inputs=(credentials.file("tokens.csv"),),
        ),
        Component("kube-controller-manager", _controller_manager(binaries, credentials)),
        Component("kube-scheduler", _scheduler(binaries, credentials)),
        Component("coredns", (binaries.path("coredns"), "-conf", dns_file), inputs=(dns_file,)),
        Component("volumes", (PYTHON, "-m", "perdure_devcluster.volumes"), _python(paths)),
    ]


def _python(paths: Paths) -> dict[str, str]:
    return {
        "PYTHONPATH": str(SOURCE),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PERDURE_DEVCLUSTER_STATE": str(paths.state),
    }


def ports(name: str) -> list[tuple[str, int]]:
    """The addresses that a daemon listens on, to be free before it starts."""

    def split(address: str) -> tuple[str, int]:
        host, port = address.split(":")
        return host, int(port)

    return {
        "etcd": [split(plan.ETCD_CLIENT), split(plan.ETCD_PEER)],
        "registry": [(plan.HOST_ADDRESS, plan.REGISTRY_PORT)],
        "kube-apiserver": [(plan.HOST_ADDRESS, plan.API_PORT)],
        "kube-controller-manager": [("127.0.0.1", 10257)],
        "kube-scheduler": [("127.0.0.1", 10259)],
        "coredns": [(plan.HOST_ADDRESS, plan.DNS_PORT)],
        "volumes": [],
        KWOK: [],
    }[name]


def _etcd(paths: Paths, binaries: Binaries) -> tuple[str | Path, ...]:
    return (
        binaries.path("etcd"),
        "--name=devcluster",
        f"--data-dir={paths.etcd}",
        f"--listen-client-urls=http://{plan.ETCD_CLIENT}",
        f"--advertise-client-urls=http://{plan.ETCD_CLIENT}",
        f"--listen-peer-urls=http://{plan.ETCD_PEER}",
        f"--initial-advertise-peer-urls=http://{plan.ETCD_PEER}",
        f"--initial-cluster=devcluster=http://{plan.ETCD_PEER}",
        "--auto-compaction-retention=1h",
        "--quota-backend-bytes=4294967296",
        "--log-level=warn",
    )


def _api_server(binaries: Binaries, credentials: Credentials) -> tuple[str | Path, ...]:
    file = credentials.file
    return (
        binaries.path("kube-apiserver"),
        f"--bind-address={plan.HOST_ADDRESS}",
        f"--advertise-address={plan.HOST_ADDRESS}",
        f"--secure-port={plan.API_PORT}",
        f"--etcd-servers=http://{plan.ETCD_CLIENT}",
        f"--service-cluster-ip-range={plan.SERVICE_NETWORK}",
        f"--tls-cert-file={file('apiserver.crt')}",
        f"--tls-private-key-file={file('apiserver.key')}",
        f"--client-ca-file={file('ca.crt')}",
        f"--token-auth-file={file('tokens.csv')}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--service-account-issuer=https://kubernetes.default.svc.{plan.CLUSTER_DOMAIN}",
        f"--service-account-key-file={file('service-account.key')}",
        f"--service-account-signing-key-file={file('service-account.key')}",
        f"--kubelet-client-certificate={file('apiserver-kubelet.crt')}",
        f"--kubelet-client-key={file('apiserver-kubelet.key')}",
        # Node names are in no DNS.
        "--kubelet-preferred-address-types=InternalIP",
        # Aggregated APIs (external metrics) ask who a forwarded request is from.
        f"--requestheader-client-ca-file={file('front-proxy-ca.crt')}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={file('front-proxy.crt')}",
        f"--proxy-client-key-file={file('front-proxy.key')}",
        # Straight to the pods: there is no kube-proxy where the API server runs.
        "--enable-aggregator-routing=true",
        "--allow-privileged=true",
        f"--default-not-ready-toleration-seconds={TOLERATION_SECONDS}",
        f"--default-unreachable-toleration-seconds={TOLERATION_SECONDS}",
        f"--feature-gates={FEATURE_GATES}",
    )


def _controller_manager(binaries: Binaries, credentials: Credentials) -> tuple[str | Path, ...]:
    file = credentials.file
    return (
        binaries.path("kube-controller-manager"),
        *_signed_in(credentials, "kube-controller-manager"),
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={file('service-account.key')}",
        f"--root-ca-file={file('ca.crt')}",
        f"--cluster-signing-cert-file={file('ca.crt')}",
        f"--cluster-signing-key-file={file('ca.key')}",
        "--node-monitor-period=1s",
        f"--node-monitor-grace-period={NODE_GRACE_SECONDS}s",
        # 3 Jobs a second with the default of 5, 50 with these.
        "--concurrent-job-syncs=20",
        # Seconds, not the default of 15 s and of 5 min, until a test sees scaling.
        "--horizontal-pod-autoscaler-sync-period=5s",
        f"--feature-gates={FEATURE_GATES}",
    )


def _scheduler(binaries: Binaries, credentials: Credentials) -> tuple[str | Path, ...]:
    return (binaries.path("kube-scheduler"), *_signed_in(credentials, "kube-scheduler"))


def _signed_in(credentials: Credentials, user: str) -> tuple[str, ...]:
    kubeconfig = credentials.kubeconfig(user)
    return (
        "--bind-address=127.0.0.1",
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        # The default of 20 requests a second holds 3 Jobs a second.
        "--kube-api-qps=1000",
        "--kube-api-burst=2000",
        # One of each: after kill -9 the lease of the last one would only cost 15 s.
        "--leader-elect=false",
    )


def corefile(kubeconfig: Path) -> str:
    """CoreDNS' configuration: the cluster's names, and no other.

    Nothing is forwarded: a name of the outside does not exist here.
    """
    return f"""\
.:{plan.DNS_PORT} {{
    bind {plan.HOST_ADDRESS}
    errors
    health {plan.HOST_ADDRESS}:{plan.DNS_HEALTH_PORT}
    ready {plan.HOST_ADDRESS}:{plan.DNS_READY_PORT}
    kubernetes {plan.CLUSTER_DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig {kubeconfig}
        pods insecure
        ttl 5
    }}
    cache 5
}}
"""


def registry_config(data: Path) -> str:
    """The image registry's configuration."""
    return f"""\
version: 0.1
log:
  level: warn
  accesslog:
    disabled: true
storage:
  filesystem:
    rootdirectory: {data}
  delete:
    enabled: true
http:
  addr: {plan.REGISTRY}
"""
