"""The cluster as a whole: up, down, status."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property

from perdure_devcluster import (
    controlplane,
    debian,
    images,
    network,
    objects,
    plan,
    processes,
    registry,
    sysctls,
)
from perdure_devcluster.api import Api
from perdure_devcluster.binaries import Binaries, build_binaries
from perdure_devcluster.cgroups import Hierarchy, of_this_machine
from perdure_devcluster.controlplane import Component
from perdure_devcluster.credentials import Credentials, make_credentials
from perdure_devcluster.errors import DevclusterError
from perdure_devcluster.files import write_atomically
from perdure_devcluster.node import DAEMONS, Nodes, Power
from perdure_devcluster.paths import Paths
from perdure_devcluster.plan import NodePlan
from perdure_devcluster.processes import Daemons
from perdure_devcluster.progress import say, step
from perdure_devcluster.waiting import answers_ok, wait_for


@dataclass(frozen=True)
class Settings:
    """What a person chose at `up`, kept for the next one."""

    nodes: int = 2
    gpus_per_node: int = 4


def load_settings(paths: Paths) -> Settings:
    """The settings of the last `up`, or the defaults."""
    try:
        return Settings(**json.loads(paths.settings.read_text()))
    except (OSError, ValueError, TypeError):
        return Settings()


@dataclass(frozen=True)
class Cluster:
    """One cluster on this machine, running or not."""

    paths: Paths
    settings: Settings

    @cached_property
    def daemons(self) -> Daemons:
        """Its processes."""
        return Daemons(self.paths.run, self.paths.logs, marker=str(self.paths.state))

    @cached_property
    def node_plans(self) -> list[NodePlan]:
        """Its nodes."""
        return plan.plan_nodes(self.settings.nodes)

    @cached_property
    def cgroups(self) -> Hierarchy:
        """The control groups of this machine."""
        return of_this_machine()

    @cached_property
    def nodes(self) -> Nodes:
        """Its nodes, as things to switch on and off."""
        return Nodes(self.paths, self.daemons, self.cgroups, self.node_plans)

    @cached_property
    def binaries(self) -> Binaries:
        """Its programs."""
        return build_binaries(self.paths.cache)

    @cached_property
    def credentials(self) -> Credentials:
        """Its keys and tokens."""
        return make_credentials(self.paths.credentials, self.paths.kubeconfig)

    @cached_property
    def api(self) -> Api:
        """Its API server, as admin."""
        return Api(self.credentials.file("ca.crt"), self.credentials.token("admin"))

    @cached_property
    def components(self) -> list[Component]:
        """Its control plane."""
        return controlplane.components(self.paths, self.binaries, self.credentials)

    def node(self, name: str) -> NodePlan:
        """The node called ``name``."""
        return plan.parse_node(name, self.settings.nodes)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One command at a time changes the cluster; the next one waits."""
        self.paths.state.mkdir(parents=True, exist_ok=True)
        with self.paths.lock.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("waiting for another devcluster command to end ...")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def up(self) -> None:
        """Bring everything up that is not; what runs is left as it is."""
        started = time.monotonic()
        _require_root()
        debian.install_missing_packages()
        self.cgroups.check()
        self.binaries  # noqa: B018 (built here, so that its minutes are not another step's)
        write_atomically(self.paths.settings, json.dumps(asdict(self.settings)))
        self._remove_surplus_nodes()
        self._remove_strays()
        sysctls.note(self.paths.sysctls)
        network.raise_bridge()
        with step("control plane"):
            for component in self.components:
                if component.needs_api:
                    self.wait_for_api()
                self.start_component(component)
            objects.apply_cluster_objects(self.api)
            for name in self._surplus_nodes():
                self.api.delete(f"/api/v1/nodes/{name}")
                shutil.rmtree(self.paths.node(name))
            wait_for(registry.answers, what="the image registry", timeout_seconds=20)
            images.push_sandbox_image(self.binaries)
            self.wait_for_dns()
        with step(f"{len(self.node_plans)} nodes"):
            began = datetime.now(UTC)
            started_nodes = [node for node in self.node_plans if self.start_node(node)]
            for node in self.node_plans:
                self._mend_node(node)
            for node in self.node_plans:
                self.wait_for_node(node, since=began if node in started_nodes else None)
            self.route_services()
        self._check_components()
        say(f"cluster up with {len(self.node_plans)} nodes: {time.monotonic() - started:.1f} s")

    def down(self, *, purge: bool) -> None:
        """Stop everything; with ``purge`` the data goes too."""
        _require_root()
        self._remove_surplus_nodes()
        for node in self.node_plans:
            if self.nodes.kill(node):
                say(f"  {node.name} stopped")
            self.nodes.clean(node)
        for name in (controlplane.KWOK, *reversed(controlplane.COMPONENTS)):
            if self.daemons.stop(name):
                say(f"  {name} stopped")
        self._remove_strays()
        if not purge:
            images.forget_untagged(self.paths.registry_config)
        self.cgroups.remove_all()
        network.remove_bridge()
        sysctls.restore(self.paths.sysctls)
        if purge:
            shutil.rmtree(self.paths.state)
            say(f"  {self.paths.state} removed")

    def start_component(self, component: Component) -> bool:
        """Start one daemon of the control plane unless it runs with just this command."""
        configuration = component.configuration
        if self.daemons.is_current(component.name, configuration):
            return False
        if self.daemons.stop(component.name):
            say(f"  {component.name} starts again, with what is new")
        for host, port in controlplane.ports(component.name):
            _require_free_port(component.name, host, port)
        self.daemons.start(
            component.name,
            component.command,
            component.environment,
            # Training keeps all CPUs busy; leases must be renewed all the same.
            self.cgroups.make("control-plane", weight=8),
            configuration,
        )
        return True

    def start_node(self, node: NodePlan) -> bool:
        """Switch a node on unless it runs."""
        image = images.sandbox_image(self.binaries)
        return self.nodes.start(node, self.binaries, self.credentials, image)

    def wait_for_api(self) -> None:
        """Until the API server says that it is ready."""

        def ready() -> bool:
            for name in ("etcd", "kube-apiserver"):
                self.daemons.check(name)
            return self.api.ready()

        wait_for(ready, what="the API server to be ready", timeout_seconds=60)

    def wait_for_dns(self) -> None:
        """Until CoreDNS has read the cluster's Services."""

        def ready() -> bool:
            self.daemons.check("coredns")
            return answers_ok(plan.HOST_ADDRESS, plan.DNS_READY_PORT, "/ready")

        wait_for(ready, what="CoreDNS to be ready", timeout_seconds=30)

    def wait_for_node(self, node: NodePlan, since: datetime | None) -> None:
        """Until a node is Ready, and offers its GPUs.

        With ``since``, an older report of the node's does not count: a node that
        was off for a moment is still called Ready.
        """
        path = f"/api/v1/nodes/{node.name}"

        def ready() -> bool:
            if self.nodes.init(node) is None:
                message = f"node {node.name} died while starting; see: devcluster logs {node.name}"
                raise DevclusterError(message)
            manifest = self.api.find(path)
            return manifest is not None and objects.node_is_ready(manifest, since)

        wait_for(ready, what=f"node {node.name} to be Ready", timeout_seconds=60)
        objects.offer_gpus(self.api, node, self.settings.gpus_per_node)

    def route_services(self) -> None:
        """Lead the machine's own traffic for Services through a node that works."""
        working = [node for node in self.node_plans if self.nodes.power(node) is Power.ON]
        if working:
            network.route_services(working[0])

    def _mend_node(self, node: NodePlan) -> None:
        power = self.nodes.power(node)
        if power is Power.FROZEN:
            self.cgroups.thaw(node.name)
        if power is Power.PARTITIONED:
            network.set_carrier(node, up=True)
        for name in DAEMONS:
            self.nodes.start_daemon(node, name)

    def _surplus_nodes(self) -> list[str]:
        """Nodes of an earlier, larger cluster."""
        wanted = {node.name for node in self.node_plans}
        folders = (self.paths.state / "nodes").glob("n*")
        return [folder.name for folder in folders if folder.name not in wanted]

    def _remove_surplus_nodes(self) -> None:
        for name in self._surplus_nodes():
            node = plan.parse_node(name, plan.MAX_NODES)
            self.nodes.kill(node)
            self.nodes.clean(node)

    def _check_components(self) -> None:
        for name in controlplane.COMPONENTS:
            self.daemons.check(name)

    def _remove_strays(self) -> None:
        """Kill processes that carry our mark but are in no record: left by a lost state folder."""
        names = [*controlplane.COMPONENTS, controlplane.KWOK, *(node.name for node in self.node_plans)]
        known = {identity for name in names if (identity := self.daemons.running(name))}
        strays = [
            identity
            for identity in processes.processes_marked(self.daemons.marker)
            if identity not in known and not _inside_a_node(identity, known)
        ]
        if strays:
            self.cgroups.thaw_all()
            say(f"  ending {len(strays)} processes that an earlier cluster has left")
        for identity in strays:
            processes.kill(identity)


def _inside_a_node(identity: processes.ProcessIdentity, known: set[processes.ProcessIdentity]) -> bool:
    """Whether a process is a known one's descendant, or the `unshare` above one."""
    pids = {other.pid for other in known}
    return any(pid in pids for pid in _ancestors(identity.pid)) or any(_parent(pid) == identity.pid for pid in pids)


def _ancestors(pid: int) -> Iterator[int]:
    while pid > 1:
        pid = _parent(pid)
        yield pid


def _parent(pid: int) -> int:
    try:
        stat = (processes.PROC / str(pid) / "stat").read_text()
    except OSError:
        return 0
    return int(stat[stat.rindex(")") + 2 :].split()[1])


def _require_root() -> None:
    if os.geteuid() != 0:
        message = "found an ordinary user, expected root (namespaces, mounts); run it with sudo"
        raise DevclusterError(message)


def _require_free_port(name: str, host: str, port: int) -> None:
    with socket.socket() as probe:
        # As the daemon will: connections of an earlier one in TIME_WAIT are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            message = (
                f"found {host}:{port} taken by a process that is not this cluster's,"
                f" expected it free for {name}; see who: ss -ltnp sport = :{port}"
            )
            raise DevclusterError(message) from error
