"""A node as seen from the machine: switched on, cut off, frozen, killed.

A node is one process tree in namespaces of its own (mount, network, cgroup,
IPC, host name, PIDs) that holds its daemons and pods.
Killing its first process is a power cut: the kernel kills all others, and drops
the mounts, the network and /run with the namespaces.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import json
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from perdure_devcluster import network, node_config, plan, processes
from perdure_devcluster.binaries import Binaries
from perdure_devcluster.cgroups import Hierarchy
from perdure_devcluster.credentials import Credentials
from perdure_devcluster.errors import DevclusterError
from perdure_devcluster.files import rotate, write_atomically
from perdure_devcluster.node_config import Share
from perdure_devcluster.paths import PYTHON, SOURCE, Paths
from perdure_devcluster.plan import NodePlan
from perdure_devcluster.processes import Daemons, ProcessIdentity
from perdure_devcluster.waiting import wait_for

DAEMONS = ("containerd", "network-policies", "kubelet", "kube-proxy")
# etcd, API server, controllers, registry, and the person's own programs.
_CONTROL_PLANE_BYTES = 2 * 1024**3
_ANY_SHARE = Share(cpus=0, memory_bytes=0)

_UNSHARE = (
    *("unshare", "--mount", "--net", "--ipc", "--uts", "--pid", "--fork"),
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
    cgroups: Hierarchy
    plans: Sequence[NodePlan]

    def power(self, node: NodePlan) -> Power:
        """What state a node is in."""
        if self.init(node) is None:
            return Power.OFF
        if self.cgroups.is_frozen(node.name):
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

    def start(self, node: NodePlan, binaries: Binaries, credentials: Credentials, sandbox_image: str) -> bool:
        """Switch a node on unless it runs with just this configuration; True when it was started.

        How much it offers, which follows from how many nodes there are, is no reason to switch off one that runs.
        """
        configuration = _hash(self._configuration(node, binaries, credentials, sandbox_image, _ANY_SHARE))
        if self.daemons.is_current(node.name, configuration):
            return False
        contents = self._configuration(node, binaries, credentials, sandbox_image, self._share())
        self.kill(node)
        self.clean(node)
        spec = self._write_configuration(node, contents)
        procs_files = self.cgroups.make(node.name)
        # The node waits for a word on this pipe until its cable is there; if we
        # die before, it reads the pipe's end and dies too.
        read_end, write_end = os.pipe()
        with open(write_end, "wb") as go, open(read_end, "rb") as stdin:  # noqa: PTH123 (descriptors)
            launcher = self.daemons.spawn(
                node.name,
                [*self._own_namespaces(node), PYTHON, "-m", "perdure_devcluster.node_init", spec],
                {"PYTHONPATH": str(SOURCE), "PYTHONDONTWRITEBYTECODE": "1"},
                procs_files,
                stdin.fileno(),
            )
            init = wait_for(
                lambda: self._first_child(node, launcher),
                what=f"the first process of {node.name}",
                timeout_seconds=10,
                interval_seconds=0.005,
            )
            self.daemons.remember(node.name, init, configuration)
            network.plug_in(node, init.pid)
            go.write(b"go\n")
        return True

    def kill(self, node: NodePlan) -> bool:
        """Cut the power; False when it was off, or somebody was just cutting it."""
        init = self.init(node)
        if init is not None:
            processes.send(init, signal.SIGKILL)
            # A frozen process takes no signal, not even this one.
            self.cgroups.thaw(node.name)
        self.daemons.kill(node.name)
        return init is not None

    def clean(self, node: NodePlan) -> None:
        """Take away what a node that is off has left on the machine."""
        self.cgroups.remove(node.name)
        network.unplug(node)

    def daemon_log(self, node: NodePlan, name: str) -> Path:
        """Where the output of one of DAEMONS goes."""
        return self.paths.node(node.name) / "logs" / f"{name}.log"

    def daemon(self, node: NodePlan, name: str) -> ProcessIdentity | None:
        """The running process of one of DAEMONS."""
        init = self.init(node)
        if init is None:
            return None
        spec = json.loads((self.paths.node(node.name) / "etc/node.json").read_text())
        command = next((entry["command"] for entry in spec["daemons"] if entry["name"] == name), None)
        if command is None:
            # An earlier version of this program has started the node, and knew of no such daemon.
            return None
        wanted = b"".join(word.encode() + b"\0" for word in command)
        for pid in _children(init.pid):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/cmdline").read_bytes() == wanted:
                    return processes.identify(pid)
        return None

    def is_stopped(self, node: NodePlan, name: str) -> bool:
        """Whether one of DAEMONS is meant not to run."""
        return (self.paths.node(node.name) / "stopped" / name).exists()

    def stop_daemon(self, node: NodePlan, name: str) -> bool:
        """Ask one of DAEMONS to end, for good; False when it did not run."""
        identity = self.daemon(node, name)
        (self.paths.node(node.name) / "stopped" / name).touch()
        self._wake_init(node)
        return identity is not None and processes.wait_until_gone(identity, 20)

    def kill_daemon(self, node: NodePlan, name: str) -> bool:
        """``kill -9`` one of DAEMONS, for good; False when it did not run."""
        identity = self.daemon(node, name)
        # First the file, or the node's first process would start it again.
        (self.paths.node(node.name) / "stopped" / name).touch()
        return identity is not None and processes.kill(identity)

    def start_daemon(self, node: NodePlan, name: str) -> bool:
        """Start one of DAEMONS; False when it was not stopped."""
        if not self.is_stopped(node, name):
            return False
        (self.paths.node(node.name) / "stopped" / name).unlink()
        self._wake_init(node)
        wait_for(
            lambda: self.daemon(node, name),
            what=f"{name} of {node.name} to start",
            timeout_seconds=10,
        )
        return True

    def _own_namespaces(self, node: NodePlan) -> list[str]:
        # The control groups' first: their root is the group that this starts in.
        return ["unshare", "--cgroup", *self.cgroups.into_leaf(node.name), *_UNSHARE]

    def _wake_init(self, node: NodePlan) -> None:
        init = self.init(node)
        if init:
            processes.send(init, signal.SIGHUP)

    def _first_child(self, node: NodePlan, launcher: int) -> ProcessIdentity | None:
        for pid in _children(launcher):
            return processes.identify(pid)
        if processes.identify(launcher) is None:
            log = self.daemons.log(node.name)
            last = log.read_text(errors="replace").splitlines()[-5:]
            message = f"node {node.name} did not start; the end of {log}:\n" + "\n".join(last)
            raise DevclusterError(message)
        return None

    def _share(self) -> Share:
        machine = this_machine()
        return node_config.share_of_machine(machine.cpus, machine.memory_bytes, len(self.plans), _CONTROL_PLANE_BYTES)

    def _configuration(
        self, node: NodePlan, binaries: Binaries, credentials: Credentials, sandbox_image: str, share: Share
    ) -> dict[str, str]:
        """Every file that a node's daemons read, by its path inside ``etc``."""
        folder = self.paths.node(node.name)
        machine = this_machine()
        kubelet = node_config.kubelet_config(
            node,
            folder,
            credentials.file("ca.crt"),
            share,
            machine.cpus,
            machine.memory_bytes,
        )
        daemons = node_config.node_daemons(node, folder, binaries.folder, credentials)
        # Ways to those that may come later too: then a node that runs needs not be told of them.
        spec = node_config.init_spec(node, folder, plan.plan_nodes(plan.MAX_NODES), daemons)
        return {
            "containerd.toml": node_config.containerd_config(folder, sandbox_image),
            "registries/_default/hosts.toml": node_config.registry_hosts(),
            "cni/10-pods.conflist": node_config.cni_config(node),
            "kubelet.json": kubelet,
            "resolv.conf": "",
            "node.json": json.dumps(spec, indent=2),
        }

    def _write_configuration(self, node: NodePlan, contents: Mapping[str, str]) -> Path:
        """Lay out the node's folder; return the path of what its first process reads."""
        folder = self.paths.node(node.name)
        for target, name in node_config.BOUND_FOLDERS.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            # A mount point has to be there before the namespaces part.
            Path(target).mkdir(parents=True, exist_ok=True)
        (folder / "logs").mkdir(exist_ok=True)
        for name in DAEMONS:
            rotate(self.daemon_log(node, name))
        # A machine that is switched on starts everything again.
        shutil.rmtree(folder / "stopped", ignore_errors=True)
        (folder / "stopped").mkdir()
        for path, content in contents.items():
            write_atomically(folder / "etc" / path, content)
        return folder / "etc/node.json"


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


def _hash(contents: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()[:16]
