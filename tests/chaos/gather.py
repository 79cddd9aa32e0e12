"""What the witnesses of a run saw, put together for the verdict."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

from obstore.store import ObjectStore

from tests.chaos import causes, remains
from tests.chaos.faults import Scene
from tests.chaos.history import Event
from tests.chaos.kinds import DELETES
from tests.chaos.objects import events_by_job
from tests.chaos.storm import LOOK_SECONDS, Storm, wait
from tests.chaos.verdict import Evidence
from tests.chaos.witness import Attempt, Processes

T = TypeVar("T")
GONE_SECONDS: Final = 120.0
"""After everything is deleted: by then nothing is left."""
ANSWER_SECONDS: Final = 60.0
"""Within this whatever is mended answers."""


@dataclass
class Gathered:
    """What must be looked at before everything is deleted, and then what is left."""

    adapters: dict[str, str] = field(default_factory=dict)
    events: dict[str, list[Event]] = field(default_factory=dict)
    late: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def gather(scene: Scene, storm: Storm, processes: Processes, store: ObjectStore, output_uri: str) -> Gathered:
    """Looks at what there is, deletes it all, and looks again.

    Args:
        scene: Where.
        storm: What was asked for.
        processes: What was seen of it.
        store: Of all outputs.
        output_uri: Where they are.
    """
    objects, found = scene.objects, Gathered()
    nodes = by_job(processes.nodes, objects.job_of)
    events: list[dict[str, Any]] = patiently(partial(scene.jobs.items, "events"), [])
    found.events = events_by_job(events, objects.uids)
    for name, deserved in storm.deserved.items():
        if digest := patiently(partial(storm.adapter, name), None):
            found.adapters[name] = digest
        if deserved.built_in and name in objects.uids:
            listed: list[remains.Written] = patiently(
                partial(remains.written, store, output_uri, objects.uids[name]), []
            )
            parted = causes.parted(deserved, objects.sights[name], nodes.get(name, {}), scene.tally.node_spells)
            found.late += [f"{name}: {each}" for each in remains.late_writes(listed, parted)]
    doomed = {
        objects.uids[name]: output_uri
        for name, spec in storm.specs.items()
        if spec.get("deletionPolicy") == DELETES and name in objects.uids
    }

    def look() -> bool:
        found.left = remains.left_behind(scene.system, scene.jobs, storm.is_ours, store, doomed)
        return not found.left

    scene.jobs.run("delete", "trainingjobs", "--all", "--wait=false")
    wait(look, GONE_SECONDS)
    return found


def evidence_of(asked: int, scene: Scene, storm: Storm, processes: Processes, found: Gathered) -> Evidence:
    """All that was seen, when nobody looks any more."""
    objects, tally = scene.objects, scene.tally
    nodes = by_job(processes.nodes, objects.job_of)
    faults = causes.Faults(touched(scene), tally.node_spells, tally.store_spells)
    return Evidence(
        asked=asked,
        deserved=storm.deserved,
        sights=objects.sights,
        adapters=found.adapters,
        gone=objects.gone,
        events=found.events,
        explained={
            name: causes.explained(name, deserved, objects.sights.get(name, ()), nodes.get(name, {}), faults)
            for name, deserved in storm.deserved.items()
        },
        cut={name for uid in tally.cut if (name := objects.job_of(uid))},
        overlaps=[each for each in processes.overlaps if each.job in storm.deserved],
        node_spells=tally.node_spells,
        seen=by_job(processes.first_seen, objects.job_of),
        scans=processes.scans,
        longest_gap_seconds=processes.longest_gap_seconds,
        late=found.late,
        left=found.left,
    )


def touched(scene: Scene) -> dict[str, dict[int, bool]]:
    """By job: attempts of which a process was killed, or a pod or Job deleted."""
    return by_job(dict.fromkeys(scene.tally.touched, True), scene.objects.job_of)


def by_job(by_attempt: Mapping[Attempt, T], job_of: Callable[[str], str | None]) -> dict[str, dict[int, T]]:
    """What is known of attempts, by the name of the job and their number."""
    found: dict[str, dict[int, T]] = defaultdict(dict)
    for attempt, what in list(by_attempt.items()):
        if name := job_of(attempt.uid):
            found[name][attempt.number] = what
    return dict(found)


def patiently(ask: Callable[[], T], otherwise: T) -> T:
    """An answer, as soon as there is one: a run of half an hour is not lost for one that is late."""
    deadline = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < deadline:
        try:
            return ask()
        except Exception:  # noqa: BLE001 - whatever it is, what is missing then is told by the verdict
            time.sleep(LOOK_SECONDS)
    return otherwise
