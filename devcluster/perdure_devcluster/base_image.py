"""A Debian base image made on this machine, for building Perdure's own images on."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from perdure_devcluster.commands import run, succeeds
from perdure_devcluster.errors import DevclusterError
from perdure_devcluster.progress import step

SUITE = "bookworm"
PACKAGES = ("python3", "ca-certificates")
# Cut what no container reads: manuals, translations, apt's lists.
_OPTIONS = (
    "--variant=minbase",
    f"--include={','.join(PACKAGES)}",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
)
_APT = Path("/etc/apt")


def image_name() -> str:
    """The base image's name; its tag is a key of what it is made from."""
    digest = hashlib.sha256(" ".join((SUITE, *_OPTIONS)).encode()).hexdigest()
    return f"localhost/perdure-base:{digest[:12]}"


def build_base_image() -> str:
    """The base image in buildah's storage, made now if it is missing; returns its name."""
    name = image_name()
    if succeeds(["buildah", "inspect", "--type", "image", name]):
        return name
    with tempfile.TemporaryDirectory(prefix="perdure-base-") as folder:
        archive = Path(folder) / "root.tar"
        with step(f"mmdebstrap {SUITE}"):
            run(["mmdebstrap", *_OPTIONS, *_apt_options(), SUITE, archive, *apt_sources()])
        with step(f"importing {name}"):
            _import(archive, name)
    return name


def apt_sources() -> list[Path]:
    """This machine's own package sources: its mirrors are the ones that it can reach."""
    files = [*_APT.glob("sources.list"), *sorted((_APT / "sources.list.d").glob("*"))]
    sources = [
        file for file in files if file.suffix in (".list", ".sources") and SUITE in file.read_text(errors="replace")
    ]
    if not sources:
        message = (
            f"found no package source for {SUITE} in {_APT}, expected one in sources.list or sources.list.d; add one"
        )
        raise DevclusterError(message)
    return sources


def _apt_options() -> list[str]:
    # Proxies, certificates and time checks of this machine. What is about dpkg
    # and hooks stays behind: it means this machine's own file system.
    files = [*_APT.glob("apt.conf"), *sorted((_APT / "apt.conf.d").glob("*"))]
    lines = [line.strip() for file in files for line in file.read_text().splitlines()]
    return [f"--aptopt={line}" for line in lines if line.startswith("Acquire::")]


def _import(archive: Path, name: str) -> None:
    container = run(["buildah", "from", "scratch"]).strip()
    try:
        run(["buildah", "add", "--quiet", container, archive, "/"])
        run(["buildah", "config", "--cmd", "bash", "--env", "LANG=C.UTF-8", container])
        run(["buildah", "commit", "--quiet", "--format", "oci", container, name])
    finally:
        run(["buildah", "rm", container])
