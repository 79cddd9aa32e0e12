"""What was done, as it is done."""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.chaos.causes import Spell
from tests.chaos.witness import Attempt


@dataclass
class Tally:
    """Times are monotonic seconds."""

    begun: float = field(default_factory=time.monotonic)
    faults: Counter[str] = field(default_factory=Counter)
    kills: dict[Attempt, float] = field(default_factory=dict)
    """When a trainer was killed first."""
    touched: set[Attempt] = field(default_factory=set)
    """Attempts of which a process was killed, or a pod or Job deleted."""
    cut: set[str] = field(default_factory=set)
    """Uids of jobs that had a checkpoint spoilt."""
    node_spells: list[Spell] = field(default_factory=list)
    """Of faults, and of nodes that Kubernetes gave up."""
    store_spells: list[Spell] = field(default_factory=list)

    def killed(self, attempt: Attempt) -> None:
        """A process of it was killed."""
        self.kills.setdefault(attempt, time.monotonic())
        self.touched.add(attempt)

    def say(self, what: str) -> None:
        sys.stdout.write(f"{time.monotonic() - self.begun:7.1f} s  {what}\n")
        sys.stdout.flush()
