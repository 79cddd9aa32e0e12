"""What is to be done about versions of the workers: pure.

A version is wanted by the installation, deployed in Kubernetes, and current in Temporal, where it may still have
workflows that began on it. Each is looked up anew every time, so that operators that were restarted, are of an older
release, or are two by accident, come to the same conclusion.

    wanted, not deployed, or deployed from something else        make it
    wanted, ready and polling, not current                       make it current
    not wanted, not current, no workflows left                   remove it
    not wanted, not current, workflows left, but no workers      the current one takes its workflows over
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

WITHOUT_VERSION: Final = ""
"""In place of a build: workers that have none."""


class Standing(StrEnum):
    """How a version stands in Temporal."""

    INACTIVE = "inactive"
    """Known, and never current."""
    CURRENT = "current"
    RAMPING = "ramping"
    """Somebody gives it a part of what is new; nothing of ours does."""
    DRAINING = "draining"
    DRAINED = "drained"


@dataclass(frozen=True)
class Deployed:
    """The Kubernetes Deployment of a version."""

    build: str
    name: str
    uid: str
    made_from: str
    """Digest of what it was made from."""
    ready: int
    """Pods."""


@dataclass(frozen=True)
class Known:
    """What Temporal knows."""

    current: str = ""
    """Build of the current version; empty: none is."""
    standings: Mapping[str, Standing] = field(default_factory=dict)
    """By build."""
    polling: frozenset[str] = frozenset()
    """Builds of which each task queue has heard lately, so up to five minutes after the last worker; WITHOUT_VERSION
    among them."""
    token: bytes = b""
    """With it a change is made only to what was seen."""


@dataclass(frozen=True)
class Fleet:
    """All versions at one time."""

    wanted: str
    wanted_from: str
    """Digest of what the wanted version is to be made from."""
    deployed: Mapping[str, Deployed]
    """By build."""
    known: Known | None
    """None: Temporal cannot be asked now."""


@dataclass(frozen=True)
class Make:
    """Create the Deployment of the wanted version, or bring it up to date."""

    build: str


@dataclass(frozen=True)
class MakeCurrent:
    """Let what is new go to a version."""

    build: str


@dataclass(frozen=True)
class Remove:
    """Delete the Deployment of a version that has nothing left to do."""

    deployed: Deployed


@dataclass(frozen=True)
class TakeOver:
    """Let the current version carry on what a version without workers has begun."""

    build: str


Step = Make | MakeCurrent | Remove | TakeOver
IDLE: Final = frozenset({None, Standing.INACTIVE, Standing.DRAINED})
"""Standings with which a version has no workflows; None: Temporal has never heard of it, or lost it."""


def plan(fleet: Fleet) -> list[Step]:
    """What is to be done now; another look follows when it is done."""
    mine = fleet.deployed.get(fleet.wanted)
    steps: list[Step] = []
    if mine is None or mine.made_from != fleet.wanted_from:
        steps.append(Make(fleet.wanted))
    if fleet.known is None:
        return steps
    if fleet.known.current != fleet.wanted and _works(fleet):
        steps.append(MakeCurrent(fleet.wanted))
    steps += [Remove(other) for build, other in sorted(fleet.deployed.items()) if _is_done(build, fleet, fleet.known)]
    steps += [TakeOver(build) for build in sorted(fleet.known.standings) if _is_stranded(build, fleet, fleet.known)]
    return steps


def waits_for(fleet: Fleet) -> str | None:
    """Why the wanted version is not the current one; None: it is, or nobody can know now."""
    if fleet.known is None or fleet.known.current == fleet.wanted or _works(fleet):
        return None
    mine = fleet.deployed.get(fleet.wanted)
    lack = "poll Temporal" if mine and mine.ready else "are ready"
    stays = f"version {fleet.known.current} stays current" if fleet.known.current else "what is new waits"
    return (
        f"no workers of version {fleet.wanted} {lack} yet, and {stays}; if that lasts, see what becomes of the pods "
        f"with the label perdure.dev/build={fleet.wanted}"
    )


def _works(fleet: Fleet) -> bool:
    """Whether there are workers of the wanted version, as both sides see it: each alone may be minutes old."""
    mine = fleet.deployed.get(fleet.wanted)
    return mine is not None and mine.ready > 0 and fleet.known is not None and fleet.wanted in fleet.known.polling


def _is_done(build: str, fleet: Fleet, known: Known) -> bool:
    return build not in {fleet.wanted, known.current} and known.standings.get(build) in IDLE


def _is_stranded(build: str, fleet: Fleet, known: Known) -> bool:
    return (
        known.current == fleet.wanted
        and known.standings[build] is Standing.DRAINING
        and build not in fleet.deployed
        and build not in known.polling
    )
