from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from threading import Event

import pytest
from structlog.testing import capture_logs

from perdure_api.progress import PerdureProgress, ProgressReport
from perdure_trainer.journal.journal import Journal, Note
from perdure_trainer.journal.progress_file import ProgressFile

QUICK = 0.001
SECONDS = 60


class Paper:
    """Keeps the steps that it is told, after what a test wants to happen first."""

    def __init__(self, before: Exception | Event | None = None) -> None:
        self._before = before
        self.steps: list[int] = []
        self.closed = False

    def add(self, notes: Sequence[Note]) -> None:
        if isinstance(self._before, Event):
            assert self._before.wait(SECONDS)
        elif self._before:
            raise self._before
        self.steps += [note.step for note in notes]

    def close(self) -> None:
        self.closed = True


def note(step: int, total: int = 100) -> Note:
    report = ProgressReport(perdure=PerdureProgress(step=step))
    return Note(step, total, float(step), {"train/loss": 1.0}, report)


def test_every_page_gets_every_note_in_order() -> None:
    pages = {"one": Paper(), "two": Paper()}
    journal = Journal(pages, QUICK)
    for step in range(1, 200):
        journal.note(note(step))
    assert journal.close(SECONDS)
    assert [(page.steps, page.closed) for page in pages.values()] == [(list(range(1, 200)), True)] * 2


def test_a_page_that_cannot_be_written_ends_alone_and_is_told_once() -> None:
    good = Paper()
    with capture_logs() as logs:
        journal = Journal({"bad": Paper(OSError(28, "No space left on device")), "good": good}, QUICK)
        for step in (1, 2, 3):
            journal.note(note(step))
        assert journal.close(SECONDS)
    assert good.steps == [1, 2, 3]
    assert [(log["event"], log["page"], log["message"]) for log in logs] == [
        ("journal_page_lost", "bad", "[Errno 28] No space left on device")
    ]


def test_a_page_that_hangs_holds_up_neither_training_nor_the_end() -> None:
    released = Event()
    journal = Journal({"slow": Paper(released)}, QUICK)
    for step in range(20_000):
        journal.note(note(step))
    assert not journal.close(QUICK)
    released.set()
    assert journal.close(SECONDS)


@pytest.mark.parametrize(("total", "marks"), [(1, 1), (100, 100), (10_000, 10_000), (10_001, 5002), (200_000, 10_001)])
def test_a_curve_has_a_bounded_number_of_points_and_both_ends(total: int, marks: int) -> None:
    report = ProgressReport()
    found = [step for step in range(1, total + 1) if Note(step, total, 0.0, {}, report).is_mark]
    assert (len(found), found[0], found[-1]) == (marks, 1, total)


def test_the_progress_file_is_always_one_whole_report(tmp_path: Path) -> None:
    path = tmp_path / "attempt" / "progress.json"
    page = ProgressFile(path)
    for step in range(1, 50):
        page.add([note(step), note(step + 1)])
        assert json.loads(path.read_text())["perdure"]["step"] == step + 1
        assert [each.name for each in path.parent.iterdir()] == ["progress.json"]


def test_the_progress_file_is_replaced_not_written_over(tmp_path: Path) -> None:
    """Whoever has opened it goes on reading what was there."""
    path = tmp_path / "progress.json"
    page = ProgressFile(path)
    page.add([note(1)])
    with path.open() as opened:
        page.add([note(2)])
        assert json.load(opened)["perdure"]["step"] == 1
