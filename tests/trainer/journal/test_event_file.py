from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from perdure_trainer.journal.event_file import EventFile
from perdure_trainer.journal.journal import MARKS_LIMIT, Note
from tests.trainer.journal.test_journal import note

VALUES = {"train/loss": 2.5, "train/learning_rate": 1e-4}


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    file = EventFile(tmp_path / "tensorboard")
    steps = [1, 127, 128, 300_000]
    for step in steps:
        file.add([Note(step, 300_000, 1000.5 + step, {**VALUES, "train/grad_norm": step})])
    file.close()
    read = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"scalars": 0}).Reload()  # type: ignore[no-untyped-call]
    assert set(read.Tags()["scalars"]) == {*VALUES, "train/grad_norm"}  # type: ignore[no-untyped-call]
    found = [(event.step, event.wall_time, event.value) for event in read.Scalars("train/grad_norm")]  # type: ignore[no-untyped-call]
    assert found == [(step, 1000.5 + step, step) for step in steps]
    assert [event.value for event in read.Scalars("train/learning_rate")] == pytest.approx([1e-4] * 4)  # type: ignore[no-untyped-call]


def test_steps_that_are_no_point_of_a_curve_are_not_written(tmp_path: Path) -> None:
    file = EventFile(tmp_path)
    file.add([note(2, total=30_000)])
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_any_length_writes_some_two_megabytes(tmp_path: Path) -> None:
    names = ("loss", "learning_rate", "grad_norm", "tokens_per_second")
    last = Note(10**9, 10**9, 0.0, {f"train/{name}": 1.0 for name in names})
    EventFile(tmp_path).add([last])
    (path,) = tmp_path.iterdir()
    assert path.stat().st_size * MARKS_LIMIT < 2.5e6
