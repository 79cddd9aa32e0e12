"""What this process knows of each TrainingJob: its newest observation, and what was done about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from perdure_operator.admission import Place, Slot, Turn
from perdure_operator.decision import Told
from perdure_operator.observation import Observation


@dataclass
class Tracked:
    """One object. Everything but the observation is only a memory that saves calls: a restart may lose it."""

    seen: Observation
    watched_version: str = "0"
    """The newest resourceVersion that the watch has told."""
    gone: bool = False
    """The API server has it no more."""
    started_at: float | None = None
    """When its workflow was last seen started, by the loop's clock."""
    informed: Told = field(default_factory=Told)
    """What its workflow was told since then."""
    failure: str | None = None
    """What the code of its workflow fails with; empty: it does not; None: nobody has looked."""
    closed_since: float | None = None
    """When its workflow was first found closed although the object is not finished."""
    cancelled_at: float | None = None
    """When its workflow was asked to end."""
    ending_since: float | None = None
    """When it was first found deleted, by the loop's clock."""
    purging_since: float | None = None
    """When the deletion of its checkpoints was first asked about."""
    polls: int = 0
    """How often was looked since then how far that is."""
    released: bool = False
    """Its finalizer was dropped by us."""
    slot: Slot = Slot.NONE
    """What it has to do with slots, when that was last looked at."""
    slot_given: bool = False
    """It has a slot, and has needed one ever since."""
    turn: Turn | Place = Turn.UNKNOWN
    """Whether it may go on, and if not, where it waits."""
    asleep: bool = False
    """Its workflow was started as a suspended one, and was not told to go on since."""
    owed: bool = False
    """What its workflows are to do without it could not be told to Temporal."""
    told: set[str] = field(default_factory=set)
    """Events that were recorded: an Event says something once."""

    @property
    def started(self) -> bool:
        """Whether its workflow is known to be started."""
        return self.started_at is not None


class Tracker:
    """Every TrainingJob of the watched namespaces, by uid."""

    def __init__(self) -> None:
        self._by_uid: dict[str, Tracked] = {}

    def __len__(self) -> int:
        """How many objects there are."""
        return len(self._by_uid)

    def __iter__(self) -> Iterator[Tracked]:
        """All objects, in a list of their own: what happens while one looks does no harm."""
        return iter(list(self._by_uid.values()))

    def get(self, uid: str) -> Tracked | None:
        """One object."""
        return self._by_uid.get(uid)

    def see(self, seen: Observation) -> Tracked:
        """Takes in a newer observation."""
        tracked = self._by_uid.get(seen.job.uid)
        if tracked is None:
            tracked = self._by_uid[seen.job.uid] = Tracked(seen)
        else:
            tracked.seen = seen
        return tracked

    def drop(self, uid: str) -> None:
        """Forgets an object that is gone."""
        self._by_uid.pop(uid, None)
