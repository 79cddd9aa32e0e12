"""Where the next attempt is tried when one has found no place: other resources, then fewer nodes."""

from __future__ import annotations

from typing import Final

from perdure_api.conditions import Reason
from perdure_api.spec import ResourcesSpec
from perdure_api.status import AttemptStatus
from perdure_api.workflow import Placement
from perdure_workers.attempts.outcome import Outcome

UNPLACED: Final = frozenset({Reason.NO_CAPACITY, Reason.IMAGE_PULL_FAILED})
"""How attempts end that found no place: nothing was trained, and elsewhere it may work."""


def placed(resources: ResourcesSpec, placement: Placement) -> ResourcesSpec:
    """What an attempt at this place asks for."""
    update: dict[str, object] = {}
    if placement.alternative:
        chosen = resources.alternatives[placement.alternative - 1]
        update = {name: getattr(chosen, name) for name in chosen.model_fields_set if getattr(chosen, name) is not None}
    if placement.nodes is not None:
        update["nodes"] = placement.nodes
    return resources.model_copy(update=update)


def fall_back(resources: ResourcesSpec, placement: Placement, outcome: Outcome) -> Placement | None:
    """The place to try after an attempt that found none; None when there is no other.

    First each alternative as it stands, but for one that asks for what was asked for before; then the one of all
    places, the first among them, that had room for most nodes, with so many, if that is enough.

    Args:
        resources: What the user asks for.
        placement: Where the attempt was tried.
        outcome: How it ended.
    """
    if outcome.reason not in UNPLACED:
        return None
    room = (*placement.room, outcome.placed_nodes or 0)
    while placement.nodes is None and len(room) <= len(resources.alternatives):
        if not _was_tried(resources, alternative=len(room)):
            return Placement(alternative=len(room), room=room)
        room = (*room, 0)
    if placement.nodes is None:
        nodes = max(room)
        best = Placement(alternative=room.index(nodes), nodes=nodes, room=room)
    else:
        nodes = outcome.placed_nodes or 0
        best = placement.model_copy(update={"nodes": nodes})
    asked = placement.nodes or resources.nodes
    return best if (resources.min_nodes or resources.nodes) <= nodes < asked else None


def _was_tried(resources: ResourcesSpec, alternative: int) -> bool:
    """Whether an alternative, from 1, asks for the same as the first resources, or as one before it."""
    asked = [placed(resources, Placement(alternative=number)) for number in range(alternative + 1)]
    return asked[-1] in asked[:-1]


def missing(resources: ResourcesSpec, placement: Placement) -> int:
    """How many nodes an attempt at this place lacks that are to be asked for meanwhile."""
    return resources.nodes - placement.nodes if resources.regrow and placement.nodes else 0


def regrown(placement: Placement) -> Placement:
    """The same place with all nodes. Should it not be had after all, what comes next is as if it had been the first."""
    return Placement(alternative=placement.alternative, room=placement.room[: placement.alternative])


def recalled(resources: ResourcesSpec, newest: AttemptStatus) -> Placement:
    """Where to go on as far as the newest attempt tells: there, or where one comes next that ended as it did.

    For how many nodes there was room before, nobody told: fewer nodes are tried when an attempt has found out anew.

    Args:
        resources: What the user asks for.
        newest: The newest attempt, under way or ended.
    """
    known = newest.alternative is not None and newest.alternative < len(resources.alternatives)
    alternative = (newest.alternative or 0) + 1 if known else 0
    here = Placement(alternative=alternative, room=(0,) * alternative)
    nodes = newest.nodes or 1
    if nodes < placed(resources, here).nodes:
        here = here.model_copy(update={"nodes": nodes})
    if newest.reason == Reason.REGROWN:
        return regrown(here)
    if newest.reason in UNPLACED:
        return fall_back(resources, here, Outcome(reason=Reason(newest.reason), message=newest.message or "")) or here
    return here


def sentence(resources: ResourcesSpec, placement: Placement) -> str:
    """Where the next attempt is tried, for people."""
    where = f"resources.alternatives[{placement.alternative - 1}]" if placement.alternative else "the first resources"
    if placement.nodes is None:
        return f"the next attempt asks for {where}"
    return f"the next attempt asks for {where} on {placement.nodes} instead of {resources.nodes} nodes"


def on_how_many(resources: ResourcesSpec, placement: Placement) -> str:
    """On how many nodes an attempt at this place begins, for people; empty where a job wants one only."""
    if resources.nodes == 1:
        return ""
    if placement.nodes is None:
        return f"on {resources.nodes} nodes"
    on = f"on {placement.nodes} of {resources.nodes} nodes"
    asked = missing(resources, placement)
    return f"{on}, and asks for {asked} more meanwhile" if asked else on
