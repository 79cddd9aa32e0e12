"""Looks after versions of the workers: their Deployments here, and which of them is the current one in Temporal."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final, assert_never

import structlog

from perdure_api import names
from perdure_control.cluster import DEPLOYMENTS, Cluster, ClusterError, Document
from perdure_operator.versions import (
    Deployed,
    Fleet,
    Known,
    Make,
    MakeCurrent,
    Remove,
    Standing,
    Step,
    TakeOver,
    plan,
    waits_for,
)
from perdure_operator.worker_pattern import PatternError, version_of
from perdure_operator.worker_versions import VersionsUnavailable, WorkerVersions

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_PAUSE_SECONDS: Final = 5.0


class VersionKeeper:
    """Makes, makes current, and removes versions, as the installation's own Deployment of the workers has them."""

    def __init__(self, cluster: Cluster, temporal: WorkerVersions, namespace: str, pattern: str) -> None:
        self._cluster = cluster
        self._temporal = temporal
        self._namespace = namespace
        self._pattern = pattern
        self._problem: str | None = "versions of the workers were not looked at yet"
        self._fleet: Fleet | None = None

    @property
    def problem(self) -> str | None:
        """What keeps the installed version from being the current one, or from being looked after; None: nothing."""
        return self._problem

    @property
    def unready(self) -> str | None:
        """Why there is no worker of the installed version yet; None: there is one."""
        mine = self._fleet.deployed.get(self._fleet.wanted) if self._fleet else None
        return None if mine and mine.ready else "no worker of the installed version is ready yet"

    def states(self) -> dict[str, str]:
        """How each version stands that is deployed here, by build."""
        if self._fleet is None:
            return {}
        known = self._fleet.known or Known()
        return {
            build: "waiting"
            if build == self._fleet.wanted and known.current != build
            else str(known.standings.get(build, Standing.INACTIVE))
            for build in self._fleet.deployed
        }

    async def run(self) -> None:
        """Looks after them for ever."""
        while True:
            try:
                self._note(await self.look())
            except (ClusterError, PatternError, VersionsUnavailable) as error:
                self._note(str(error))
            await asyncio.sleep(_PAUSE_SECONDS)

    async def look(self) -> str | None:
        """Looks once, and does what is to be done.

        Returns:
            What keeps the installed version from being the current one.

        Raises:
            ClusterError: the API server is away or refuses.
            PatternError: the installation's Deployment of the workers is not one that versions are made from.
            VersionsUnavailable: Temporal is away or refuses.
        """
        pattern = await self._cluster.get(DEPLOYMENTS.path(self._namespace, self._pattern))
        wanted = version_of(pattern)
        listing = await self._cluster.get(
            DEPLOYMENTS.path(self._namespace), labelSelector=f"{names.LABEL_WORKERS}={self._pattern}"
        )
        fleet = Fleet(
            wanted=wanted["metadata"]["labels"][names.LABEL_BUILD],
            wanted_from=wanted["metadata"]["annotations"][names.ANNOTATION_MADE_FROM],
            deployed={deployed.build: deployed for deployed in map(_deployed, listing["items"])},
            known=None,
        )
        try:
            known = await self._temporal.look()
        except VersionsUnavailable:
            # There must be workers all the same, for when it is back.
            await self._carry_out(fleet, wanted)
            raise
        await self._carry_out(replace(fleet, known=known), wanted)
        return waits_for(replace(fleet, known=known))

    async def _carry_out(self, fleet: Fleet, wanted: Document) -> None:
        self._fleet = fleet
        for step in plan(fleet):
            await self._do(step, fleet.known or Known(), wanted)

    async def _do(self, step: Step, known: Known, wanted: Document) -> None:
        match step:
            case Make(build):
                path = DEPLOYMENTS.path(self._namespace, wanted["metadata"]["name"])
                await self._cluster.apply(path, wanted, manager=names.FIELD_MANAGER_OPERATOR)
                log.info("worker_version_made", build=build)
            case MakeCurrent(build):
                await self._temporal.make_current(build, known.token)
                log.info("worker_version_current", build=build, before=known.current or None)
            case Remove(deployed):
                await self._remove(deployed)
            case TakeOver(build):
                moved = await self._temporal.take_over(build, known.current)
                if moved:
                    log.warning("workflows_taken_over", without_workers=build, by=known.current, count=moved)
            case _:
                assert_never(step)

    async def _remove(self, deployed: Deployed) -> None:
        # Once more, and of another source: what is asked for last is what a mistake would cost.
        left = await self._temporal.open_workflows(deployed.build)
        if left:
            log.info("worker_version_kept", build=deployed.build, workflows=left)
            return
        await self._cluster.delete(DEPLOYMENTS.path(self._namespace, deployed.name), uid=deployed.uid)
        log.info("worker_version_removed", build=deployed.build)

    def _note(self, problem: str | None) -> None:
        if problem and problem != self._problem:
            log.warning("worker_version_waits", problem=problem)
        self._problem = problem


def _deployed(deployment: Document) -> Deployed:
    metadata = deployment["metadata"]
    return Deployed(
        build=metadata["labels"].get(names.LABEL_BUILD, ""),
        name=metadata["name"],
        uid=metadata["uid"],
        made_from=(metadata.get("annotations") or {}).get(names.ANNOTATION_MADE_FROM, ""),
        ready=(deployment.get("status") or {}).get("readyReplicas") or 0,
    )
