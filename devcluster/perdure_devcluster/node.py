"""A node as seen from the machine: switched on, cut off, frozen, killed.

A node is one process tree in namespaces of its own (mount, network, cgroup,
IPC, host name, PIDs) that holds its containerd, kubelet, kube-proxy and pods.
Killing its first process is a power cut: the kernel kills all others, and drops
the mounts, the network and /run with the namespaces.
"""

from __future__ import annotations

import enum
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from perdure_devcluster import cgroups, network, node_config, processes
from perdure_devcluster.binaries import Binaries
from perdure_devcluster.credentials import Credentials
from perdure_devcluster.errors import DevclusterError
from perdure_devcluster.files import write_atomically
from perdure_devcluster.paths import SOURCE, Paths
from perdure_devcluster.plan import NodePlan
from perdure_devcluster.processes import Daemons, ProcessIdentity
from perdure_devcluster.waiting import wait_for

DAEMONS = ("containerd", "kubelet", "kube-proxy")
# etcd, API server, controllers, registry, and the person's own programs.
_CONTROL_PLANE_BYTES = 2 * 1024**3

# Moves itself into the node's control groups before it becomes `unshare`.
_ENTER = 'for f in $PROCS_FILES; do echo 0 > "$f" || exit 1; done; exec "$@"'
_UNSHARE = (
    *("unshare", "--mount", "--net", "--cgroup", "--ipc", "--uts", "--pid", "--fork"),
    *("--mount-proc", "--kill-child=SIGKILL"),
)


class Power(enum.Enum):
    """What state a node is in, seen from outside."""

    OFF = "off"
    ON = "running"
    PARTITIONED = "partitioned"
    FROZEN = "frozen"


@dataclass(frozen=True)
class Machine:
    """What this machine has."""

    cpus: int
    memory_bytes: int


def this_machine() -> Machine:
    """CPUs and bytes of memory of this machine."""
    pages = os.sysconf("SC_PHYS_PAGES")
    return Machine(os.cpu_count() or 1, pages * os.sysconf("SC_PAGE_SIZE"))


@dataclass(frozen=True)
class Nodes:
    """The nodes of one cluster."""

    paths: Paths
    daemons: Daemons
    plans: Sequence[NodePlan]

    def power(self, node: NodePlan) -> Power:
        """What state a node is in."""
        if self.init(node) is None:
            return Power.OFF
        if cgroups.is_frozen(node.name):
            return Power.FROZEN
        link = network.links().get(node.host_link)
        return Power.ON if link and link.is_up else Power.PARTITIONED

    def init(self, node: NodePlan) -> ProcessIdentity | None:
        """The node's first process."""
        return self.daemons.running(node.name)

    def containerd_socket(self, node: NodePlan) -> Path:
        """A node's containerd socket, reached through its first process' root."""
        init = self.init(node)
        if init is None:
            message = f"node {node.name} is off; run: devcluster start-node {node.name}"
            raise DevclusterError(message)
        return Path(f"/proc/{init.pid}/root{node_config.CONTAINERD_SOCKET}")

    def start(
        self, node: NodePlan, binaries: Binaries, credentials: Credentials, sandbox_image: str
    ) -> bool:
        """Switch a node on unless it runs; True when it was started."""
        if self.init(node):
            return False
        self.clean(node)
        spec = self._write_configuration(node, binaries, credentials, sandbox_image)
        procs_files = cgroups.make(node.name)
        launcher = self.daemons.spawn(
            node.name,
            [
                *("sh", "-c", _ENTER, "sh", *_UNSHARE),
                *(sys.executable, "-m", "perdure_devcluster.node_init", spec),
            ],
            {
                "PROCS_FILES": " ".join(str(file) for file in procs_files),
                "PYTHONPATH": str(SOURCE),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
        )
        init = wait_for(
            lambda: self._first_child(node, launcher.pid),
            what=f"the first process of {node.name}",
            timeout_seconds=10,
            interval_seconds=0.005,
        )
        self.daemons.remember(node.name, init)
        network.plug_in(node, init.pid)
        if launcher.stdin is None:  # pragma: no cover (spawn always makes a pipe)
            raise DevclusterError(node.name)
        launcher.stdin.write(b"go\n")
        launcher.stdin.close()
        return True

    def kill(self, node: NodePlan) -> bool:
        """Cut the power; False when it was off."""
        init = self.init(node)
        if init is None:
            return False
        processes.send(init, processes.signal.SIGKILL)
        # A frozen process takes no signal, not even this one.
        cgroups.thaw(node.name)
        if not processes.wait_until_gone(init, 20):
            message = f"node {node.name} (process {init.pid}) did not end 20 s after SIGKILL"
            raise DevclusterError(message)
        return True

    def clean(self, node: NodePlan) -> None:
        """Take away what a node that is off has left on the machine."""
        cgroups.remove(node.name)
        network.unplug(node)

    def _first_child(self, node: NodePlan, launcher: int) -> ProcessIdentity | None:
        try:
            children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
        except OSError:
            children = []
        if children:
            return processes.identify(int(children[0]))
        if processes.identify(launcher) is None:
            log = self.daemons.log(node.name)
            last = log.read_text(errors="replace").splitlines()[-5:]
            message = f"node {node.name} did not start; the end of {log}:\n" + "\n".join(last)
            raise DevclusterError(message)
        return None

    def _write_configuration(
        self, node: NodePlan, binaries: Binaries, credentials: Credentials, sandbox_image: str
    ) -> Path:
        folder = self.paths.node(node.name)
        for target, name in node_config.BOUND_FOLDERS.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            # A mount point has to be there before the namespaces part.
            Path(target).mkdir(parents=True, exist_ok=True)
        (folder / "logs").mkdir(exist_ok=True)
        # A machine that is switched on starts everything again.
        shutil.rmtree(folder / "stopped", ignore_errors=True)
        (folder / "stopped").mkdir()
        machine = this_machine()
        share = node_config.share_of_machine(
            machine.cpus, machine.memory_bytes, len(self.plans), _CONTROL_PLANE_BYTES
        )
        etc = folder / "etc"
        daemons = node_config.node_daemons(
            node,
            folder,
            binaries.folder,
            credentials.kubeconfig(f"kubelet-{node.name}"),
            credentials.kubeconfig("kube-proxy"),
        )
        spec = etc / "node.json"
        kubelet = node_config.kubelet_config(
            node,
            folder,
            credentials.file("ca.crt"),
            share,
            machine.cpus,
            machine.memory_bytes,
        )
        contents = {
            etc / "containerd.toml": node_config.containerd_config(folder, sandbox_image),
            etc / "registries/_default/hosts.toml": node_config.registry_hosts(),
            etc / "cni/10-pods.conflist": node_config.cni_config(node),
            etc / "kubelet.json": kubelet,
            etc / "resolv.conf": "",
            spec: json.dumps(
                node_config.init_spec(node, folder, list(self.plans), daemons), indent=2
            ),
        }
        for path, content in contents.items():
            write_atomically(path, content)
        return spec
