"""Who may ask: the API server, which has asked who the user is and what that user may, and nobody else.

It shows a certificate of an authority of its own, which the cluster publishes for servers behind it.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from perdure_control.cluster import Cluster, Collection

_CONFIG_MAPS: Final = Collection("v1", "configmaps")
_AUTHORITY: Final = "requestheader-client-ca-file"
_NAMES: Final = "requestheader-allowed-names"
PATH: Final = _CONFIG_MAPS.path("kube-system", "extension-apiserver-authentication")


class NoFrontProxy(Exception):
    """The cluster does not say by which certificate its API server is known."""


@dataclass(frozen=True)
class FrontProxy:
    """By what the API server is known."""

    authority: str
    """PEM."""
    names: frozenset[str]
    """Common names that its certificate may have; empty: any."""

    def welcomes(self, certificate: Mapping[str, Any] | None) -> bool:
        """Whether a certificate, which the authority is known to have signed, is the API server's.

        Args:
            certificate: As `ssl.SSLSocket.getpeercert` gives it; None or empty where none was shown.
        """
        if not certificate:
            return False
        names = {value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"}
        return not self.names or not self.names.isdisjoint(names)

    def demand_of(self, context: ssl.SSLContext) -> None:
        """Makes a server check what it is shown. Without a certificate it still answers, to say what is missing."""
        context.load_verify_locations(cadata=self.authority)
        context.verify_mode = ssl.CERT_OPTIONAL


async def read_front_proxy(cluster: Cluster) -> FrontProxy:
    """What the cluster publishes.

    Raises:
        ClusterError: the API server is away, or refuses.
        NoFrontProxy: nothing is published, or something else than expected.
    """
    data = (await cluster.get(PATH)).get("data") or {}
    authority = data.get(_AUTHORITY)
    if not authority:
        raise NoFrontProxy(
            f"ConfigMap kube-system/extension-apiserver-authentication has no {_AUTHORITY}, expected the authority of "
            f"the API server's certificate; set up the aggregation layer (--requestheader-client-ca-file)"
        )
    try:
        names = json.loads(data.get(_NAMES) or "[]")
    except ValueError:
        names = None
    if not isinstance(names, list):
        raise NoFrontProxy(
            f"ConfigMap kube-system/extension-apiserver-authentication has {data[_NAMES]!r} as {_NAMES}, expected a "
            f"JSON list of common names"
        )
    return FrontProxy(authority, frozenset(map(str, names)))
