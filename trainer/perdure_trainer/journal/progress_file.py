"""The newest report in a file, for whoever looks at this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perdure_trainer.journal.journal import Note


class ProgressFile:
    """One JSON document, replaced as a whole: whoever reads it sees all of a report, and of one only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = path.with_name(f".{path.name}.next")

    def add(self, notes: Sequence[Note]) -> None:
        """See Page."""
        reports = [note.report for note in notes if note.report]
        if reports:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._next.write_text(reports[-1].model_dump_json(by_alias=True, exclude_none=True))
            self._next.replace(self._path)

    def close(self) -> None:
        """See Page."""
