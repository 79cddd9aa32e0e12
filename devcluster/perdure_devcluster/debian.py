"""The Debian packages that a node is made of."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perdure_devcluster.commands import run
from perdure_devcluster.errors import DevclusterError
from perdure_devcluster.progress import say, step

# Each package with a file that shows it is there, so that nothing is asked of
# dpkg (and any other way of installing it is as good).
PACKAGES = {
    "containerd": "/usr/bin/containerd",
    "runc": "/usr/sbin/runc",
    "containernetworking-plugins": "/usr/lib/cni/ptp",
    "iproute2": "/sbin/ip",
    "iptables": "/usr/sbin/iptables",
    "nftables": "/usr/sbin/nft",
    "conntrack": "/usr/sbin/conntrack",
    "ethtool": "/sbin/ethtool",
    "socat": "/usr/bin/socat",
    "util-linux": "/usr/bin/unshare",
    "openssl": "/usr/bin/openssl",
    "mmdebstrap": "/usr/bin/mmdebstrap",
    "buildah": "/usr/bin/buildah",
    "docker-registry": "/usr/bin/docker-registry",
}

_POLICY = Path("/usr/sbin/policy-rc.d")
_UNITS = Path("/lib/systemd/system")


def missing_packages() -> list[str]:
    """The packages whose file is not there."""
    return [package for package, file in PACKAGES.items() if not Path(file).exists()]


def install_missing_packages() -> None:
    """Install what is missing, saying so first; their services start neither now nor at the next boot."""
    missing = missing_packages()
    if not missing:
        return
    if shutil.which("apt-get") is None:
        message = (
            f"found no {', '.join(missing)} and no apt-get to install them with; this cluster needs Debian 12 or newer"
        )
        raise DevclusterError(message)
    say(f"installing Debian packages: {' '.join(missing)}")
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    with step("apt-get install"), _services_not_started():
        run(["apt-get", "update"], environment=environment)
        run(install, environment=environment)
        _disable_services(missing)


def _disable_services(packages: list[str]) -> None:
    # After a reboot docker-registry would sit on our registry's port. What was
    # there before us is the person's own, and stays as it is.
    services = [f"{package}.service" for package in packages if (_UNITS / f"{package}.service").exists()]
    if services and shutil.which("systemctl"):
        run(["systemctl", "disable", "--quiet", *services])


@contextmanager
def _services_not_started() -> Iterator[None]:
    # containerd and docker-registry come with services, which Debian starts on
    # installation unless this hook says 101. One that is there already stays.
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()
