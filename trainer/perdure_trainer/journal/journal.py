"""What is noted of a run for people to look at.

By a thread of its own: training neither waits for it nor fails with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Condition, Thread
from typing import Final, Protocol

import structlog

from perdure_api.progress import ProgressReport

_log = structlog.get_logger()

INTERVAL_SECONDS: Final = 1.0
"""Between two looks at what there is to note."""
NOTES_LIMIT: Final = 4096
"""Of more steps than that in an interval the oldest are not noted."""
MARKS_LIMIT: Final = 10_000
"""Points of a curve: more of them make files larger, and look the same."""


@dataclass(frozen=True)
class Note:
    """Some values at a step."""

    step: int
    total_steps: int
    time: float
    """Seconds since the epoch."""
    values: Mapping[str, float]
    """By names such as `train/loss`."""
    report: ProgressReport | None = None
    """The same, as it is told to the control plane; of steps only."""

    @property
    def is_mark(self) -> bool:
        """Whether curves have a point here: at even distances, at the end, and where no step is."""
        distance = -(-self.total_steps // MARKS_LIMIT)
        return self.report is None or self.step % distance == 0 or self.step in {1, self.total_steps}


class Page(Protocol):
    """One way of noting. What it raises ends it, and nothing else."""

    def add(self, notes: Sequence[Note]) -> None:
        """Notes what is new, in order."""

    def close(self) -> None:
        """Nothing comes any more."""


class Journal:
    """Hands notes to pages, some at a time."""

    def __init__(self, pages: Mapping[str, Page], interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._pages = dict(pages)
        self._interval_seconds = interval_seconds
        self._changed = Condition()
        self._notes: deque[Note] = deque(maxlen=NOTES_LIMIT)
        self._closing = False
        self._thread = Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def note(self, note: Note) -> None:
        """Takes it and returns at once."""
        with self._changed:
            self._notes.append(note)
            self._changed.notify()

    def close(self, timeout_seconds: float) -> bool:
        """Notes what is left, for so long; whether all is noted."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        closing = False
        while not closing:
            with self._changed:
                self._changed.wait_for(lambda: self._notes or self._closing)
                notes, closing = list(self._notes), self._closing
                self._notes.clear()
            for name in list(self._pages):
                self._write(name, notes, closing=closing)
            with self._changed:
                self._changed.wait_for(lambda: self._closing, self._interval_seconds)

    def _write(self, name: str, notes: Sequence[Note], *, closing: bool) -> None:
        try:
            page = self._pages[name]
            page.add(notes)
            if closing:
                page.close()
        except Exception as error:  # noqa: BLE001 - no drawing is worth a run
            del self._pages[name]
            _log.warning("journal_page_lost", page=name, message=str(error) or repr(error))
