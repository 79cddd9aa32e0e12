"""The command line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

from perdure_devcluster import base_image, debian, faults, images, kwok, status
from perdure_devcluster.cluster import Cluster, load_settings
from perdure_devcluster.errors import DevclusterError
from perdure_devcluster.paths import paths_from_environment
from perdure_devcluster.plan import NodePlan
from perdure_devcluster.progress import say


def main(arguments: Sequence[str]) -> int:
    """Run one command; return its exit code."""
    if arguments[:1] == ["kubectl"]:
        # Whatever follows is kubectl's, options too.
        options = argparse.Namespace(run=_kubectl, arguments=arguments[1:])
    else:
        options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except DevclusterError as error:
        say(f"devcluster: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _cluster(nodes: int | None = None, gpus_per_node: int | None = None) -> Cluster:
    paths = paths_from_environment(os.environ)
    settings = load_settings(paths)
    if nodes is not None:
        settings = replace(settings, nodes=nodes)
    if gpus_per_node is not None:
        settings = replace(settings, gpus_per_node=gpus_per_node)
    return Cluster(paths, settings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="devcluster", description="A real Kubernetes on this machine.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, help_: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=help_, description=help_)

    up = command("up", "start the cluster, or what is missing of it")
    up.add_argument("--nodes", type=int, help="how many nodes (default: as before, or 2)")
    up.add_argument("--gpus-per-node", type=int, help="fake GPUs (default: as before, or 4)")
    up.set_defaults(run=_up)

    down = command("down", "stop the cluster")
    down.add_argument("--purge", action="store_true", help="delete its data as well")
    down.set_defaults(run=_down)

    command("status", "say what runs").set_defaults(run=_status)

    load = command("load-image", "bring an image of buildah's to every node")
    load.add_argument("names", nargs="+", metavar="NAME")
    load.add_argument("--as", dest="rename", metavar="NAME", help="another name in the cluster")
    load.set_defaults(run=_load_image)

    node_commands: dict[str, tuple[Callable[[Cluster, NodePlan], object], str]] = {
        "kill-node": (faults.kill_node, "cut a node's power: all its processes die at once"),
        "start-node": (faults.start_node, "switch a node on again, and wait until it is Ready"),
        "partition-node": (faults.partition_node, "cut a node's cable; its pods go on"),
        "heal-node": (faults.heal_node, "mend a node's cable"),
        "freeze-node": (faults.freeze_node, "hang a node: no process of it goes on"),
        "thaw-node": (faults.thaw_node, "let a hung node go on"),
    }
    for name, (fault, help_) in node_commands.items():
        node_command = command(name, help_)
        node_command.add_argument("node", metavar="NODE", help="n1, n2, ...")
        node_command.set_defaults(run=_on_node, fault=fault)

    component_commands: dict[str, tuple[Callable[[Cluster, str], object], str]] = {
        "stop-component": (faults.stop_component, "end a daemon (SIGTERM); it stays away"),
        "kill-component": (faults.kill_component, "kill -9 a daemon; it stays away"),
        "start-component": (faults.start_component, "start a daemon that is away"),
        "restart-component": (faults.restart_component, "stop and start a daemon"),
    }
    for name, (component_fault, help_) in component_commands.items():
        component_command = command(name, help_)
        component_command.add_argument("name", metavar="NAME", help="kube-apiserver, n1/kubelet, ... (see status)")
        component_command.set_defaults(run=_on_component, fault=component_fault)

    kwok_command = command("kwok", "have nodes that are not there, for pods that do nothing")
    kwok_command.add_argument("--nodes", type=int, required=True, help="how many (0: none, and no KWOK)")
    kwok_command.set_defaults(run=_kwok)

    logs = command("logs", "print the log of a component, or of a node's first process")
    logs.add_argument("name", metavar="NAME", help="kube-apiserver, n1/kubelet, n1, ...")
    logs.add_argument("-f", "--follow", action="store_true", help="go on as it grows")
    logs.add_argument("--tail", type=int, default=1000, help="lines to begin with (1000)")
    logs.set_defaults(run=_logs)

    command("base-image", "build the Debian base image; print its name").set_defaults(run=_base_image)
    command("kubeconfig", "print the path of the kubeconfig").set_defaults(run=_kubeconfig)
    command("kubectl", "run kubectl against the cluster")
    return parser


def _up(options: argparse.Namespace) -> None:
    cluster = _cluster(options.nodes, options.gpus_per_node)
    with cluster.locked():
        cluster.up()
        kwok.forget_dead_nodes(cluster)


def _down(options: argparse.Namespace) -> None:
    cluster = _cluster()
    with cluster.locked():
        cluster.down(purge=options.purge)


def _status(_: argparse.Namespace) -> None:
    print(status.report(_cluster()))


def _load_image(options: argparse.Namespace) -> None:
    cluster = _cluster()
    for name in images.load_images(cluster.nodes, cluster.binaries, options.names, options.rename):
        print(name)


def _on_node(options: argparse.Namespace) -> None:
    cluster = _cluster()
    target = cluster.node(options.node)
    with cluster.locked():
        _report(options.fault(cluster, target), target.name)


def _on_component(options: argparse.Namespace) -> None:
    cluster = _cluster()
    with cluster.locked():
        _report(options.fault(cluster, options.name), options.name)


def _report(changed: object, name: str) -> None:
    # False, and not None: a fault that has nothing to say about it.
    say(f"{name}: nothing to do, it was so already" if changed is False else f"{name}: done")


def _kwok(options: argparse.Namespace) -> None:
    kwok.have_nodes(_cluster(), options.nodes)


def _logs(options: argparse.Namespace) -> None:
    log = faults.log(_cluster(), options.name)
    follow = ["-F"] if options.follow else []
    sys.stdout.flush()
    os.execvp("tail", ["tail", "-n", str(options.tail), *follow, str(log)])


def _base_image(_: argparse.Namespace) -> None:
    debian.install_missing_packages()
    print(base_image.build_base_image())


def _kubeconfig(_: argparse.Namespace) -> None:
    print(_cluster().paths.kubeconfig)


def _kubectl(options: argparse.Namespace) -> None:
    cluster = _cluster()
    program = cluster.binaries.path("kubectl")
    environment = {**os.environ, "KUBECONFIG": str(cluster.paths.kubeconfig)}
    sys.stdout.flush()
    os.execve(program, [str(program), *options.arguments], environment)
