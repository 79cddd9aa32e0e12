"""Whose a node's addresses are, told by the node itself as soon as it gives one out.

The kubelet tells a pod's address a second later or two, when it has seen the pod run. But the CNI library keeps what
each of its calls came to in a folder, with the pod that it was for, until the pod is gone (cniCacheV1 of libcni).
"""

from __future__ import annotations

import ctypes
import json
import os
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from perdure_devcluster.policies.objects import PodKey

FOLDER = Path("/var/lib/cni/results")
_IN_CLOSE_WRITE, _IN_MOVED_TO, _IN_DELETE = 0x8, 0x80, 0x200


def read(folder: Path) -> dict[IPv4Address, PodKey]:
    """To whom each address was given last."""
    found: dict[IPv4Address, PodKey] = {}
    for file in sorted(folder.iterdir(), key=_age, reverse=True):
        # It may be gone by now, or half written: then we are told of it again.
        with suppress(OSError, ValueError):
            found |= parse(file.read_text())
    return found


def parse(text: str) -> dict[IPv4Address, PodKey]:
    """The IPv4 addresses in one file, with their pod.

    Raises:
        ValueError: it is no such file, or not whole.
    """
    try:
        document = json.loads(text)
        arguments = dict(document.get("cniArgs") or [])
        addresses = [
            IPv4Interface(entry["address"]).ip for entry in document["result"]["ips"] if "." in entry["address"]
        ]
        key = PodKey(arguments["K8S_POD_NAMESPACE"], arguments["K8S_POD_NAME"])
    except (KeyError, TypeError, AttributeError) as error:
        message = f"this is not what libcni keeps of a call: {error!r}"
        raise ValueError(message) from error
    return {address: key for address in addresses if not address.is_loopback}


class Changes:
    """What happens in the folder, from now on."""

    def __init__(self, folder: Path) -> None:
        """Make the folder where the first pod has not done so yet.

        Raises:
            OSError: the kernel cannot watch it.
        """
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = _checked(libc.inotify_init1(os.O_CLOEXEC))
        what = ctypes.c_uint32(_IN_CLOSE_WRITE | _IN_MOVED_TO | _IN_DELETE)
        _checked(libc.inotify_add_watch(self._descriptor, os.fsencode(folder), what))

    def wait(self) -> None:
        """Until something has changed, once for all that has."""
        os.read(self._descriptor, 65536)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _age(file: Path) -> int:
    """Nanoseconds since the epoch, negative: the oldest is the greatest."""
    try:
        return -file.stat().st_mtime_ns
    except OSError:
        return 0
