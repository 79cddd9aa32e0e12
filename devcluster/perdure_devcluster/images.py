"""Images on their way from the machine's buildah to the nodes."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from perdure_devcluster import plan, registry
from perdure_devcluster.binaries import Binaries
from perdure_devcluster.commands import run, succeeds
from perdure_devcluster.errors import DevclusterError
from perdure_devcluster.node import Nodes, Power
from perdure_devcluster.plan import NodePlan
from perdure_devcluster.progress import say, step

_ARCHIVE = re.compile(r"^(oci-archive|docker-archive|oci|dir):")


def repository_name(name: str) -> str:
    """An image's name without the registry that it is named after.

    ``localhost/perdure/trainer:dev`` and ``registry.example/perdure/trainer:dev`` are both
    ``perdure/trainer:dev`` here: the nodes ask the local registry for either.
    """
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        name = rest
    last = name.rsplit("/", 1)[-1]
    return name if ":" in last else f"{name}:latest"


def sandbox_image(binaries: Binaries) -> str:
    """The image of every pod's first container."""
    return f"{plan.REGISTRY}/perdure-pause:{binaries.key}"


def push_sandbox_image(binaries: Binaries) -> None:
    """Put the pause program into the registry, unless it is there."""
    if not registry.has("perdure-pause", binaries.key):
        registry.push_program("perdure-pause", binaries.key, binaries.path("pause"))


def load_image(nodes: Nodes, binaries: Binaries, name: str, rename: str | None) -> str:
    """Push one image to the registry and have every running node pull it; return its new name.

    ``name`` is an image in buildah's storage, or an archive: ``oci-archive:PATH``.
    """
    if not registry.answers():
        message = f"found no image registry at {plan.REGISTRY}; run: devcluster up"
        raise DevclusterError(message)
    source = name
    if _ARCHIVE.match(name) or Path(name).is_file():
        if rename is None:
            message = f"{name} is an archive, which needs a name: add --as NAME:TAG"
            raise DevclusterError(message)
        with step(f"reading {name}"):
            archive = name if _ARCHIVE.match(name) else f"oci-archive:{name}"
            source = run(["buildah", "pull", "--quiet", archive]).strip()
    elif not succeeds(["buildah", "inspect", "--type", "image", name]):
        message = f'found no image "{name}" in buildah\'s storage; build it first, or see what is there: buildah images'
        raise DevclusterError(message)
    target = f"{plan.REGISTRY}/{repository_name(rename or name)}"
    with step(f"pushing {target}"):
        # zstd unpacks five times as fast as gzip on each node. buildah remembers
        # the digest of what it has compressed once, so a layer that is in the
        # registry is neither read nor sent again (it compresses whatever goes
        # to a registry: --disable-compression is for folders only).
        options = ["--quiet", "--tls-verify=false", "--format=oci"]
        options += ["--compression-format=zstd", "--compression-level=1"]
        run(["buildah", "push", *options, source, f"docker://{target}"])
    _offer_as_library_image(repository_name(rename or name))
    _pull_everywhere(nodes, binaries, target)
    return target


def _offer_as_library_image(name: str) -> None:
    # containerd puts `library/` before a name without a slash, and it stays there
    # when the local registry is asked.
    if "/" not in name:
        repository, tag = name.split(":")
        registry.copy(repository, tag, f"library/{repository}")


def image_with_tag(listing: str, name: str) -> str | None:
    """The id of the image that has this name and no other, from what `cri-image list` prints."""
    for line in listing.splitlines():
        id_, _, tags = line.partition(" ")
        if tags.split(" ")[-1] == name:
            return id_
    return None


def _pull_everywhere(nodes: Nodes, binaries: Binaries, image: str) -> None:
    running = [node for node in nodes.plans if nodes.power(node) is Power.ON]

    def pull(node: NodePlan) -> None:
        started = time.monotonic()
        runtime = [str(binaries.path("cri-image")), "-socket", str(nodes.containerd_socket(node))]
        before = image_with_tag(run([*runtime, "list"]), image)
        after = run([*runtime, "pull", image]).strip()
        if before and before != after:
            # The one that had this name before; nothing else would ever remove it.
            run([*runtime, "remove", before])
        say(f"  {node.name} has pulled it: {time.monotonic() - started:.1f} s")

    with ThreadPoolExecutor(max_workers=max(1, len(running))) as pool:
        list(pool.map(pull, running))


def load_images(nodes: Nodes, binaries: Binaries, names: Sequence[str], rename: str | None) -> list[str]:
    """``load_image`` for several."""
    if rename is not None and len(names) != 1:
        message = f"found --as with {len(names)} images, expected one; load them one by one"
        raise DevclusterError(message)
    return [load_image(nodes, binaries, name, rename) for name in names]


def forget_untagged(registry_config: Path) -> None:
    """Delete the layers that no image name leads to any more; the registry must not run."""
    if registry_config.exists():
        run(["docker-registry", "garbage-collect", "--delete-untagged", registry_config])
