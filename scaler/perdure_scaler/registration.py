"""Tells the API server by which authority it knows us: the operator makes it after the APIService was installed."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Final

import structlog

from perdure_control.cluster import MERGE_PATCH, Cluster, ClusterError, Collection
from perdure_scaler.metrics_api import GROUP, VERSION

API_SERVICE: Final = Collection("apiregistration.k8s.io/v1", "apiservices").path(name=f"{VERSION}.{GROUP}")
LOOK_SECONDS: Final = 30.0

log = structlog.get_logger(__name__)


class Registration:
    """The authority in the APIService that leads to us. Both replicas write the same, and seldom."""

    def __init__(self, cluster: Cluster, namespace: str, service: str, authority: Callable[[], str | None]) -> None:
        self._cluster = cluster
        self._service = {"name": service, "namespace": namespace}
        self._authority = authority
        self.problem: str | None = "not looked at yet"
        """What is wrong with it; None when nothing is."""

    async def keep(self) -> None:
        """Never returns; end it by cancelling."""
        while True:
            before = self.problem
            try:
                await self.renew()
            except ClusterError as error:
                self.problem = f"APIService {VERSION}.{GROUP}: {error.message}"
            if self.problem and self.problem != before:
                log.warning("not_registered", why=self.problem)
            await asyncio.sleep(LOOK_SECONDS)

    async def renew(self) -> bool:
        """Writes the authority where another stands.

        Returns:
            Whether something was written.

        Raises:
            ClusterError: the API server is away or refuses; NotFound: there is no such APIService.
        """
        found = await self._cluster.get(API_SERVICE)
        service = found["spec"].get("service") or {}
        if {key: service.get(key) for key in self._service} != self._service:
            self.problem = (
                f"APIService {VERSION}.{GROUP} leads to {service.get('namespace')}/{service.get('name')}, expected "
                f"{self._service['namespace']}/{self._service['name']}: a cluster has one provider of external metrics"
            )
            return False
        authority = self._authority()
        if authority is None:
            self.problem = "the certificate's authority (ca.crt) is missing"
            return False
        bundle = base64.b64encode(authority.encode()).decode()
        self.problem = None
        if found["spec"].get("caBundle") == bundle:
            return False
        # The version makes it conditional: somebody may just have taken the APIService over.
        body = {"metadata": {"resourceVersion": found["metadata"]["resourceVersion"]}, "spec": {"caBundle": bundle}}
        await self._cluster.patch(API_SERVICE, body, content_type=MERGE_PATCH)
        log.info("registered", api_service=f"{VERSION}.{GROUP}")
        return True
