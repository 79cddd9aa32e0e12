"""Everything that people like to look at, of one run: progress in a file, TensorBoard, the loss as a picture, a card.

None of it is worth the run: what goes wrong here is said in the log, and left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Final

import structlog

from perdure_api.pod import PROGRESS_FILE
from perdure_trainer.card import Card
from perdure_trainer.journal.curve import drawn
from perdure_trainer.journal.event_file import EventFile
from perdure_trainer.journal.journal import Journal, Note
from perdure_trainer.journal.progress_file import ProgressFile
from perdure_trainer.losses import Point
from perdure_trainer.result import upload_folder

if TYPE_CHECKING:
    from perdure_api.pod import ResultDocument
    from perdure_api.progress import ProgressReport
    from perdure_data.stores import Stores
    from perdure_trainer.loop import StepReport
    from perdure_trainer.models.contract import Usage
    from perdure_trainer.settings import Settings

_log = structlog.get_logger()

TENSORBOARD: Final = "tensorboard"
PICTURE: Final = "loss.png"
CARD: Final = "README.md"
_LAST_NOTES_SECONDS: Final = 10.0


class RunJournal:
    """The journal of an attempt."""

    def __init__(self, settings: Settings, stores: Stores, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._stores = stores
        self._clock = clock
        self._uploaded = False
        self._events = settings.journal_folder / TENSORBOARD
        self._journal = Journal(
            {
                "progress": ProgressFile(settings.journal_folder / PROGRESS_FILE),
                "tensorboard": EventFile(self._events),
            }
        )

    def step(self, step: StepReport, report: ProgressReport) -> None:
        """Notes a step and returns at once."""
        values = {
            "train/loss": step.loss,
            "train/learning_rate": step.learning_rate,
            "train/grad_norm": step.gradient_norm,
            "train/tokens_per_second": step.labels_per_second,
        }
        self._journal.note(Note(step.position.step, step.total_steps, self._clock(), values, report))

    def keepsakes(self, folder: Path, result: ResultDocument, usage: Usage, losses: Sequence[Point]) -> None:
        """Puts picture and card into the folder of an adapter, and the event file beside where that will be."""
        for step, metrics in ((0, result.base_metrics), (result.step, result.metrics)):
            values = {f"eval/{name}": metrics[name] for name in result.base_metrics if name in metrics}
            self._journal.note(Note(step, result.step, self._clock(), values))
        if not self._journal.close(_LAST_NOTES_SECONDS):
            _log.warning("journal_not_finished", waited_seconds=_LAST_NOTES_SECONDS)
        with _spared(PICTURE):
            base, adapted = (metrics["eval_loss"] for metrics in (result.base_metrics, result.metrics))
            _write(folder / PICTURE, drawn(losses, Point(0, base), Point(result.step, adapted)))
        with _spared(CARD):
            picture = PICTURE if (folder / PICTURE).exists() else None
            _write(folder / CARD, Card(self._settings, result, usage, picture).markdown().encode())
        self._upload()

    def close(self, timeout_seconds: float) -> None:
        """Notes what is left, and puts the event file of a run that failed where that of a success is: for so long."""
        # In a thread: a store that is away may take a minute to say so, and the pod may have seconds.
        thread = Thread(target=self._close, name="journal's end", daemon=True)
        thread.start()
        thread.join(timeout_seconds)

    def _close(self) -> None:
        self._journal.close(_LAST_NOTES_SECONDS)
        if not self._uploaded:
            self._upload()

    def _upload(self) -> None:
        self._uploaded = True
        with _spared(TENSORBOARD):
            if self._settings.attempt_uri.scheme != "file":
                upload_folder(self._stores, self._events, self._settings.attempt_uri.child(TENSORBOARD))


def _write(path: Path, content: bytes) -> None:
    """Writes a file, or leaves none: half a picture is worse than no picture."""
    path.unlink(missing_ok=True)  # peft leaves a card of its own, which says nothing
    try:
        path.write_bytes(content)
    except OSError:
        path.unlink(missing_ok=True)
        raise


@contextmanager
def _spared(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - no drawing is worth a run
        _log.warning("keepsake_lost", what=what, message=str(error) or repr(error))
