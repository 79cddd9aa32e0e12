from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Event

from perdure_api.progress import ProgressReport
from perdure_api.uri import StoreUri, parse_uri
from perdure_data.stores import Stores
from perdure_trainer.journal.run_journal import RunJournal
from perdure_trainer.loop import StepReport
from perdure_trainer.state import Position
from tests.trainer.checkpoints.test_repository import settings

SECONDS = 60


class Hanging(Stores):
    """A store that answers only when a test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.released = Event()
        self.asked = Event()
        self.written: list[str] = []

    def put(self, uri: StoreUri, content: bytes) -> None:
        assert content
        self.asked.set()
        self.released.wait(SECONDS)
        self.written.append(uri.parent.path)


def test_a_store_that_hangs_does_not_hold_up_the_end_of_a_run_that_failed(tmp_path: Path) -> None:
    stores = Hanging()
    journal = RunJournal(replace(settings(parse_uri("s3://b/run"), 1), scratch=tmp_path), stores)
    journal.step(StepReport(Position(step=1), 2, 1.0, 0.1, 1.0, 1.0), ProgressReport())
    journal.close(0.1)
    assert stores.written == []
    assert stores.asked.wait(SECONDS)
    stores.released.set()
