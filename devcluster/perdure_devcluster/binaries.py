"""The cluster's own programs, built from pinned Go modules and cached by key."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from perdure_devcluster.commands import run
from perdure_devcluster.errors import DevclusterError
from perdure_devcluster.paths import SOURCE
from perdure_devcluster.progress import say, step

KUBERNETES_VERSION = "1.34.4"

# The API server first: it compiles most of what the others share.
PACKAGES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
    "kubelet": "k8s.io/kubernetes/cmd/kubelet",
    "kube-proxy": "k8s.io/kubernetes/cmd/kube-proxy",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
    "coredns": "./cmd/coredns",
    "pause": "./cmd/pause",
    "cri-image": "./cmd/cri-image",
}

_MAJOR, _MINOR, _ = KUBERNETES_VERSION.split(".")
_VERSION_PACKAGE = "k8s.io/component-base/version"
_LINKER_FLAGS = (
    "-s -w"
    f" -X {_VERSION_PACKAGE}.gitVersion=v{KUBERNETES_VERSION}"
    f" -X {_VERSION_PACKAGE}.gitMajor={_MAJOR}"
    f" -X {_VERSION_PACKAGE}.gitMinor={_MINOR}"
)
BUILD_FLAGS = ("-trimpath", "-buildvcs=false", f"-ldflags={_LINKER_FLAGS}")
KWOK_VERSION = "0.7.0"
KWOK_PACKAGES = {"kwok": "sigs.k8s.io/kwok/cmd/kwok"}
PLAIN_FLAGS = ("-trimpath", "-buildvcs=false", "-ldflags=-s -w")
_BUILDS_KEPT = 3
# The first that reads a go.mod with a newer version in it, and fetches that version.
_OLDEST_GO = (1, 21)


@dataclass(frozen=True)
class Binaries:
    """A folder with every program of PACKAGES."""

    folder: Path

    @property
    def key(self) -> str:
        """What the programs were built from, as a short hash."""
        return self.folder.name

    def path(self, name: str) -> Path:
        """The program called ``name``."""
        return self.folder / name


def cache_key(sources: Iterable[tuple[str, bytes]], go_version: str, flags: Iterable[str]) -> str:
    """Sixteen hexadecimal digits that change whenever a binary could.

    ``sources`` are (path inside the module, content).
    """
    digest = hashlib.sha256()
    for part in (go_version, *flags):
        digest.update(part.encode() + b"\0")
    for path, content in sorted(sources):
        digest.update(path.encode() + b"\0" + hashlib.sha256(content).digest())
    return digest.hexdigest()[:16]


def module_sources(module: Path) -> list[tuple[str, bytes]]:
    """go.mod, go.sum and every Go file of the module."""
    files = [module / "go.mod", module / "go.sum", *module.rglob("*.go")]
    return [(str(file.relative_to(module)), file.read_bytes()) for file in files]


def build_binaries(cache: Path) -> Binaries:
    """The programs, from the cache or built now (about six minutes on two cores)."""
    what = f"Kubernetes {KUBERNETES_VERSION}, etcd and CoreDNS (first time: some minutes)"
    return Binaries(built(SOURCE / "go", PACKAGES, BUILD_FLAGS, cache / "bin", what))


def build_kwok(cache: Path) -> Path:
    """KWOK's program, from the cache or built now (about two minutes on two cores)."""
    what = f"KWOK {KWOK_VERSION} (first time: some minutes)"
    return built(SOURCE / "kwok", KWOK_PACKAGES, PLAIN_FLAGS, cache / "kwok", what) / "kwok"


def built(module: Path, packages: Mapping[str, str], flags: Sequence[str], cache: Path, what: str) -> Path:
    """A folder below ``cache`` with the programs of ``packages``, built from a module of pinned sources.

    Raises:
        DevclusterError: there is no Go that can, or it failed.
    """
    folder = cache / cache_key(module_sources(module), _go_version(module), flags)
    if folder.is_dir():
        return folder
    say(f"building {what}")
    cache.mkdir(parents=True, exist_ok=True)
    # Built beside its place and renamed: a folder that is there is complete.
    unfinished = Path(tempfile.mkdtemp(dir=cache, prefix=".building-"))
    try:
        for name, package in packages.items():
            with step(f"go build {name}"):
                run(
                    ["go", "build", *flags, "-o", unfinished / name, package],
                    environment={"CGO_ENABLED": "0", "GOFLAGS": "", "GOOS": "linux"},
                    folder=module,
                )
        unfinished.chmod(0o755)
        if not folder.exists():
            unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    _forget_oldest(cache)
    return folder


def _forget_oldest(cache: Path) -> None:
    """Keep the newest builds only: each takes half a gigabyte."""
    builds = [folder for folder in cache.iterdir() if not folder.name.startswith(".")]
    builds.sort(key=lambda folder: folder.stat().st_mtime)
    for folder in builds[:-_BUILDS_KEPT]:
        shutil.rmtree(folder)


def _go_version(module: Path) -> str:
    if shutil.which("go") is None:
        raise DevclusterError(_go_wanted("no `go` on PATH"))
    # GOTOOLCHAIN may fetch the version that go.mod names, so ask in its folder.
    version = run(["go", "env", "GOVERSION"], folder=module).strip()
    check_go_version(version)
    return f"{version} {os.uname().machine}"


def check_go_version(version: str) -> None:
    """Raise when ``version``, such as go1.19.8, is too old even to fetch the one that it should be."""
    numbers = re.match(r"go(\d+)\.(\d+)", version)
    # What is no release (devel ...) is somebody's own, who knows what they do.
    if numbers and (int(numbers[1]), int(numbers[2])) < _OLDEST_GO:
        raise DevclusterError(_go_wanted(version))


def _go_wanted(found: str) -> str:
    return (
        f"found {found}, expected Go 1.21 or newer (it fetches the one that is wanted by itself); install it"
        " (Debian 12: apt-get install -t bookworm-backports golang-go)"
    )
