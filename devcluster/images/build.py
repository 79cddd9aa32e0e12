# ruff: noqa: INP001 - a script, run by its path
"""Builds every image with buildah, each one only when something that it is made of has changed.

    python3 devcluster/images/build.py [--base-image NAME] [--helm-values FILE] [cpu|gpu|temporal|seaweedfs ...]

prints the images' names, one a line. An image's tag is a digest of its inputs, so a name always means the same content:
what is already there is not built again, and pods roll when, and only when, their image has changed.

The machine's own package index and certificates are used for the build and stay out of the images.
"""

from __future__ import annotations

import argparse
import configparser
import hashlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
PUBLIC_BASE_IMAGE: Final = "docker.io/library/python:3.11-slim-bookworm"
CERTIFICATES: Final = Path("/etc/ssl/certs")
KEY_CHARACTERS: Final = 12
STAGE_LABEL: Final = "dev.perdure.stage"
"""In the Dockerfiles: which repository a build stage is on the way to."""


class BuildError(Exception):
    """A build that failed, in a sentence."""


@dataclass(frozen=True)
class Image:
    """One image and everything that it is made of."""

    repository: str
    dockerfile: str
    inputs: tuple[str, ...]
    """Files and folders that the Dockerfile copies, from the repository's root."""
    value: tuple[str, ...]
    """Where the chart's values hold this image."""
    arguments: Mapping[str, str] = field(default_factory=dict)


IMAGES: Final = {
    "cpu": Image(
        repository="perdure-cpu",
        dockerfile="Dockerfile.cpu",
        inputs=(
            *("LICENSE", "README.md", "pyproject.toml", "locks/cpu.txt"),
            *("api", "control", "data", "operator", "workers", "scaler", "cli"),
        ),
        value=("image", "cpu"),
    ),
    "gpu": Image(
        repository="perdure-gpu",
        dockerfile="Dockerfile.gpu",
        inputs=(
            *("LICENSE", "README.md", "pyproject.toml", "locks/gpu.txt"),
            *("devcluster/images/cuda-packages.txt", "devcluster/images/cuda_stubs.py"),
            *("api", "control", "data", "documents", "inference", "trainer", "workers"),
        ),
        value=("image", "trainer"),
        arguments={"ACCELERATOR": "none"},
    ),
    "temporal": Image(
        repository="perdure-temporal",
        dockerfile="devcluster/images/temporal.Containerfile",
        inputs=("devcluster/images/temporal.txt",),
        value=("temporal", "quickStart", "image"),
    ),
    "seaweedfs": Image(
        repository="perdure-seaweedfs",
        dockerfile="devcluster/images/seaweedfs.Containerfile",
        inputs=("devcluster/images/seaweedfs.txt",),
        value=("objectStore", "quickStart", "image"),
    ),
}


def main(arguments: Sequence[str]) -> int:
    """Builds what is asked for; returns the exit status."""
    parser = argparse.ArgumentParser(description="Build Perdure's images with buildah.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(IMAGES)} (default: all)")
    parser.add_argument("--base-image", default=PUBLIC_BASE_IMAGE, help="a Debian or Ubuntu with Python 3.11 or newer")
    parser.add_argument("--helm-values", type=Path, metavar="FILE", help="write the tags as values for the chart")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.names) - set(IMAGES)):
        parser.error(f"found {', '.join(unknown)}, expected some of {', '.join(IMAGES)}")
    try:
        built = build([IMAGES[name] for name in options.names or IMAGES], options.base_image)
    except BuildError as error:
        sys.stderr.write(f"images: {error}\n")
        return 1
    if options.helm_values:
        options.helm_values.write_text(json.dumps(helm_values(built), indent=2) + "\n")
    sys.stdout.writelines(f"localhost/{image.repository}:{tag}\n" for image, tag in built)
    return 0


def build(images: Iterable[Image], base_image: str) -> list[tuple[Image, str]]:
    """Builds what is missing.

    Returns:
        Each image with its tag.

    Raises:
        BuildError: buildah is not there, or a build failed.
    """
    there = _stored_images()
    base = f"{base_image} {there.get(base_image, '')}"
    built = []
    for image in images:
        tag = input_key(image, base, ROOT)
        if f"localhost/{image.repository}:{tag}" not in there:
            _build(image, tag, base_image)
            _forget_older(image, tag, there)
            _forget_older_stages(image)
        built.append((image, tag))
    return built


def input_key(image: Image, base: str, root: Path) -> str:
    """A digest of everything that goes into an image: its tag."""
    digest = hashlib.sha256(json.dumps([base, dict(image.arguments)]).encode())
    for path in sorted(_input_files([image.dockerfile, *image.inputs], root)):
        content = hashlib.sha256((root / path).read_bytes()).hexdigest()
        digest.update(f"\n{path} {content}".encode())
    return digest.hexdigest()[:KEY_CHARACTERS]


def _input_files(inputs: Iterable[str], root: Path) -> Iterator[str]:
    for name in inputs:
        path = root / name
        for file in path.rglob("*") if path.is_dir() else [path]:
            if file.is_file() and file.suffix != ".pyc":
                yield file.relative_to(root).as_posix()


def helm_values(built: Iterable[tuple[Image, str]]) -> dict[str, Any]:
    """The tags, where the chart's values want them."""
    values: dict[str, Any] = {}
    for image, tag in built:
        place = values
        for key in image.value:
            place = place.setdefault(key, {})
        place["tag"] = tag
    return values


def _build(image: Image, tag: str, base_image: str) -> None:
    name = f"localhost/{image.repository}:{tag}"
    started = time.monotonic()
    sys.stderr.write(f"  building {name} ...\n")
    arguments = {"BASE_IMAGE": base_image, **image.arguments}
    with _package_index_secrets() as secrets:
        _buildah(
            *("bud", "--quiet", "--isolation", "chroot", "--layers", "--file", str(ROOT / image.dockerfile)),
            *(word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")),
            *(["--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro"] if CERTIFICATES.is_dir() else []),
            *(word for secret, file in secrets.items() for word in ("--secret", f"id={secret},src={file}")),
            *("--tag", name, str(ROOT)),
        )
    sys.stderr.write(f"  building {name}: {time.monotonic() - started:.1f} s\n")


def _forget_older(image: Image, tag: str, there: Iterable[str]) -> None:
    """Removes the same image with other tags: each one may hold gigabytes that nothing uses any more."""
    prefix = f"localhost/{image.repository}:"
    for name in there:
        if name.startswith(prefix) and name != prefix + tag:
            forget(name)


def _forget_older_stages(image: Image) -> None:
    """Removes what was built on the way to earlier tags; the newest stage stays, as the cache of the next build."""
    ours = f"label={STAGE_LABEL}={image.repository}"
    stages = _buildah("images", "--quiet", "--filter", "dangling=true", "--filter", ours).split()
    for stage in stages[1:]:
        forget(stage)


def forget(image: str) -> None:
    """What a build beside this one holds, or one that was cut off, stays until `buildah rm` lets go of it."""
    with suppress(BuildError):
        _buildah("rmi", image)


def _stored_images() -> Mapping[str, str]:
    """The ids of the images in buildah's storage, by name."""
    listed = json.loads(_buildah("images", "--json") or "[]") or []
    return {name: image["id"] for image in listed for name in image.get("names") or []}


@contextmanager
def _package_index_secrets() -> Iterator[Mapping[str, Path]]:
    """The machine's package index as configuration files for pip and uv, which a build sees and no layer keeps."""
    index = package_index(os.environ, _pip_configuration_files())
    if not index:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="perdure-build-") as folder:
        pip, uv = Path(folder, "pip.conf"), Path(folder, "uv.toml")
        pip.write_text("[global]\n" + "".join(f"{key} = {value}\n" for key, value in index.items()))
        uv.write_text("".join(f"{key} = {_uv_value(key, value)}\n" for key, value in index.items()))
        yield {"pip": pip, "uv": uv}


def package_index(environment: Mapping[str, str], files: Iterable[Path]) -> dict[str, str]:
    """What pip would ask for packages, where that is not PyPI: its index-url and extra-index-url."""
    configuration = configparser.ConfigParser(interpolation=None)
    configuration.read(files)
    found = {}
    for key in ("index-url", "extra-index-url"):
        value = environment.get(f"PIP_{key.upper().replace('-', '_')}")
        value = value or configuration.get("global", key, fallback=None)
        if value:
            found[key] = " ".join(value.split())
    return found


def _pip_configuration_files() -> list[Path]:
    home = Path.home()
    own = os.environ.get("PIP_CONFIG_FILE")
    return [
        Path("/etc/pip.conf"),
        home / ".pip" / "pip.conf",
        home / ".config" / "pip" / "pip.conf",
        *([Path(own)] if own else []),
    ]


def _uv_value(key: str, value: str) -> str:
    return json.dumps(value.split() if key == "extra-index-url" else value)


def _buildah(*arguments: str) -> str:
    try:
        result = subprocess.run(["buildah", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise BuildError("found no buildah; install it (Debian: apt-get install buildah)") from error
    if result.returncode != 0:
        last_words = "\n".join((result.stdout + result.stderr).strip().splitlines()[-20:])
        command = shlex.join(["buildah", *arguments])
        raise BuildError(f"`{command}` ended with {result.returncode}:\n{last_words}")
    return result.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
