"""The command line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace

from perdure_devcluster import base_image, debian, images, status
from perdure_devcluster.cluster import Cluster, load_settings
from perdure_devcluster.errors import DevclusterError
from perdure_devcluster.paths import paths_from_environment
from perdure_devcluster.progress import say


def main(arguments: Sequence[str]) -> int:
    """Run one command; return its exit code."""
    if arguments[:1] == ["kubectl"]:
        # Whatever follows is kubectl's, options too.
        return _kubectl(_cluster(), list(arguments[1:]))
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
    parser = argparse.ArgumentParser(
        prog="devcluster", description="A real Kubernetes on this machine."
    )
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

    command("base-image", "build the Debian base image; print its name").set_defaults(
        run=_base_image
    )
    command("kubeconfig", "print the path of the kubeconfig").set_defaults(run=_kubeconfig)
    command("kubectl", "run kubectl against the cluster")
    return parser


def _up(options: argparse.Namespace) -> None:
    cluster = _cluster(options.nodes, options.gpus_per_node)
    with cluster.locked():
        cluster.up()


def _down(options: argparse.Namespace) -> None:
    cluster = _cluster()
    with cluster.locked():
        cluster.down(purge=options.purge)


def _status(_: argparse.Namespace) -> None:
    print(status.report(_cluster()))


def _load_image(options: argparse.Namespace) -> None:
    cluster = _cluster()
    for name in images.load_images(
        cluster.nodes, cluster.binaries, options.names, options.rename
    ):
        print(name)


def _base_image(_: argparse.Namespace) -> None:
    debian.install_missing_packages()
    print(base_image.build_base_image())


def _kubeconfig(_: argparse.Namespace) -> None:
    print(_cluster().paths.kubeconfig)


def _kubectl(cluster: Cluster, arguments: list[str]) -> int:
    try:
        program = cluster.binaries.path("kubectl")
    except DevclusterError as error:
        say(f"devcluster: {error}")
        return 1
    sys.stdout.flush()
    environment = {**os.environ, "KUBECONFIG": str(cluster.paths.kubeconfig)}
    os.execve(program, [str(program), *arguments], environment)
