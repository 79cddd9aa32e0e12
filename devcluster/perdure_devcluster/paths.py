"""Where everything lies: one folder of state, one of caches."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# .../devcluster/perdure_devcluster/paths.py -> .../devcluster
SOURCE = Path(__file__).resolve().parent.parent
# The interpreter behind a virtual environment: daemons outlive such folders.
PYTHON = Path(sys.executable).resolve()


@dataclass(frozen=True)
class Paths:
    """All paths follow from these two."""

    state: Path
    cache: Path

    @property
    def kubeconfig(self) -> Path:
        """The cluster-admin kubeconfig."""
        return self.state / "kubeconfig"

    @property
    def settings(self) -> Path:
        """What the cluster was last started with."""
        return self.state / "cluster.json"

    @property
    def lock(self) -> Path:
        """Held by a command that changes the cluster."""
        return self.state / "lock"

    @property
    def sysctls(self) -> Path:
        """The machine's settings before a kubelet changed them."""
        return self.state / "sysctls.json"

    @property
    def run(self) -> Path:
        """One record for each process we started."""
        return self.state / "run"

    @property
    def logs(self) -> Path:
        """One log for each process we started."""
        return self.state / "logs"

    @property
    def credentials(self) -> Path:
        """Keys, certificates, tokens and the kubeconfigs made of them."""
        return self.state / "credentials"

    @property
    def etcd(self) -> Path:
        """The cluster's data."""
        return self.state / "etcd"

    @property
    def registry(self) -> Path:
        """The image registry's data."""
        return self.state / "registry"

    @property
    def registry_config(self) -> Path:
        """The image registry's configuration."""
        return self.state / "registry.yaml"

    def node(self, name: str) -> Path:
        """What would be a node's disk."""
        return self.state / "nodes" / name

    def node_volumes(self, name: str) -> Path:
        """The directories behind a node's local volumes."""
        return self.node(name) / "volumes"


def paths_from_environment(environment: Mapping[str, str]) -> Paths:
    """Read PERDURE_DEVCLUSTER_STATE, PERDURE_CACHE and XDG_CACHE_HOME."""
    state = environment.get("PERDURE_DEVCLUSTER_STATE") or "/var/lib/perdure-devcluster"
    cache = environment.get("PERDURE_CACHE")
    if not cache:
        cache_home = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        cache = os.path.join(cache_home, "perdure")  # noqa: PTH118 (both are strings)
    return Paths(state=Path(state).absolute(), cache=Path(cache).absolute())
